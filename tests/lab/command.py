"""Runs the real command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    """The command line of `kinoform` with these arguments."""
    return [sys.executable, "-m", "lab.main", *map(str, arguments)]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def kinoform(*arguments, folder, **options):
    """Run `kinoform` in `folder`, to its end."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=250, **options
    )


def is_refusal(code, stderr, *parts):
    """Whether `code` says that the input is wrong, and `stderr` is one line for people with every one of `parts`."""
    lines = stderr.splitlines()
    return (
        code == 2 and len(lines) == 1 and lines[0].startswith("kinoform: ") and all(part in lines[0] for part in parts)
    )
