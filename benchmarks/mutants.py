"""Deliberate faults, one at a time, and whether the tests notice: `make mutants`.

Each fault of benchmarks/mutants.yaml is one wrong line in a copy of the sources, against the tests that are about its
file and the one about recipes' keys. A fault whose `right` is not in its file exactly once is an error: the list is to
be kept up with the code.

    python -m benchmarks.mutants [--only TEXT] [--least SHARE]

--only: faults whose file or line holds TEXT. --least: ends with 1 where a smaller share is noticed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_suffix(".yaml")
SOURCES = ("shared", "video", "dreamfusion", "world", "lab", "kinoform", "configs", "benchmarks", "tests")
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--no-header")
SECONDS = 900  # a fault may make a test run on for ever; that is noticed, too


@dataclass(frozen=True)
class Fault:
    """file: from the root. right: text that is there once. wrong: what stands in its place. tests: pytest's words."""

    file: str
    right: str
    wrong: str
    tests: str

    def applied_to(self, text: str) -> str:
        """The file's text with the fault. Raises ValueError where it does not hold `right` exactly once."""
        count = text.count(self.right)
        if count != 1:
            raise ValueError(f"{self.file}: expected once, got {count} times: {self.right!r}")
        return text.replace(self.right, self.wrong)


def read_faults(path: Path = LIST) -> list[Fault]:
    """The list, each fault checked against the sources. Raises ValueError for one that has gone stale."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    faults = [
        Fault(group["file"], right, wrong, group["tests"]) for group in groups for right, wrong in group["faults"]
    ]
    for fault in faults:
        fault.applied_to((ROOT / fault.file).read_text(encoding="utf-8"))
    return faults


def noticed(fault: Fault, folders: list[Path]) -> bool:
    """Whether its tests fail with it. folders: copies of the sources, of which one that is free is taken."""
    folder = folders.pop()
    file = folder / fault.file
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(fault.applied_to(text), encoding="utf-8")
        return run_tests(folder, fault.tests) != 0
    finally:
        file.write_text(text, encoding="utf-8")
        folders.append(folder)


def run_tests(folder: Path, tests: str) -> int:
    """pytest's exit code: 0 where all pass, 1 where one fails. Raises RuntimeError where it found nothing to run."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    command = [sys.executable, "-m", "pytest", *PYTEST, *shlex.split(tests)]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 1
    if done.returncode > 1:
        raise RuntimeError(f"pytest {tests}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode


def copies(count: int, below: Path) -> Iterator[Path]:
    """Folders with the sources, and with the files that stand beside them."""
    for index in range(count):
        folder = below / str(index)
        folder.mkdir()
        for name in SOURCES:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        for file in (*ROOT.glob("*.toml"), *ROOT.glob("*.md"), *ROOT.glob("*.txt")):
            shutil.copy(file, folder)
        yield folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Which of the deliberate faults the tests notice.")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose file or line holds it")
    parser.add_argument("--least", type=float, default=0.85, metavar="SHARE", help="ends with 1 below it")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="faults at once")
    options = parser.parse_args()
    faults = [fault for fault in read_faults() if options.only in f"{fault.file} {fault.right} {fault.wrong}"]
    with tempfile.TemporaryDirectory() as below:
        folders = list(copies(options.jobs, Path(below)))
        for tests in sorted({fault.tests for fault in faults}):
            if run_tests(folders[0], tests) != 0:
                raise RuntimeError(f"these tests fail without any fault: {tests}")
        found = 0
        with ThreadPoolExecutor(options.jobs) as pool:
            for fault, seen in zip(faults, pool.map(partial(noticed, folders=folders), faults), strict=True):
                found += seen
                print(f"{'noticed ' if seen else 'MISSED  '} {fault.file}: {fault.right} -> {fault.wrong}", flush=True)
    share = found / max(len(faults), 1)
    print(f"{found} of {len(faults)} faults noticed: {share:.0%}")
    return 0 if share >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
