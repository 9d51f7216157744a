"""Pickles to safetensors, in a process of their own with limits (`shared.models.layouts.unpickle`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from shared.artifacts.files import atomic_path
from shared.artifacts.json_text import read_json_file
from shared.errors import InputError, ModelError

ROOT = Path(__file__).resolve().parents[3]
EXPECTED = "a pickle of tensors alone"


def unpickled(source: Path, out: Path) -> int:
    """Write the tensors of a pickle (.ckpt, .pt, .bin) to the safetensors file `out`, whole or not at all.

    Returns how many entries were no tensors and are left out. Raises ModelError for what torch's weights_only refuses,
    for no tensors, numbers that are not finite, and a file that wants more memory or time than its size explains.
    """
    with atomic_path(out) as temporary:
        report = temporary.with_name("report.json")
        # -P: nothing is imported from where the user stands. Of the environment only what finds Python and its parts.
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR") if name in os.environ}
        paths = [str(ROOT), *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        process = subprocess.run(
            [sys.executable, "-P", "-m", "shared.models.layouts.unpickle"]
            + [str(path.resolve()) for path in (source, temporary, report)],
            env={**kept, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        try:
            answer = read_json_file(report)
        except InputError as error:
            raise ModelError(f"file {source}", expected=EXPECTED, got=_ending(process.returncode)) from error
        finally:
            report.unlink(missing_ok=True)
        if "refused" in answer:
            raise ModelError(f"file {source}", expected=EXPECTED, got=answer["refused"])
    return int(answer["left_out"])


def _ending(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "more time than its size gives reason for"
    if code in (-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV):
        return "more memory than its size gives reason for, or a broken one"
    return f"one that ended its reader ({code})"
