"""The `kinoform` command: parse, run one command, turn what went wrong into one line and an exit code.

Exit codes: 0 done; 2 the input is wrong; 1 it failed; 130 interrupted (Ctrl-C or SIGTERM).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from lab.signals import INTERRUPTED, interruptible


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kinoform` with `argv` (the process's arguments when None) and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for library in ("DIFFUSERS", "TRANSFORMERS"):  # their notes on how a model was loaded say nothing to our user
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries: we have our own
    # Before torch loads OpenMP: threads that wait for work let go of their core, so that commands can share a machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signals: list[int] = []
    try:
        with interruptible(signals):
            code = _run(argv)
            sys.stdout.flush()
            return code
    except BaseException as error:  # every way out ends in an exit code, here and nowhere else
        return _exit_code(error, interrupted=bool(signals), show_traceback="--traceback" in argv)


def _run(argv: Sequence[str]) -> int:
    from lab.parser import parse  # inside, so that Ctrl-C is handled from the first import on

    try:
        args = parse(argv)
    except SystemExit as done:  # argparse's --help and --version
        return int(done.code or 0)
    args.run(args)
    return 0


def _exit_code(error: BaseException, *, interrupted: bool, show_traceback: bool) -> int:
    from shared.errors import KinoformError, one_line

    _drop_unwritable_output()
    if show_traceback:
        traceback.print_exception(error)
    if interrupted or isinstance(error, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    if isinstance(error, BrokenPipeError):  # the reader of our output has left
        return 1
    if isinstance(error, KinoformError):
        return _say(str(error), error.exit_code)
    if isinstance(error, MemoryError):
        return _say("out of memory", 1)
    detail = one_line(str(error), limit=400)
    return _say(f"failed: {type(error).__name__}: {detail} (--traceback shows where)", 1)


def _say(line: str, code: int) -> int:
    print(f"kinoform: {line}", file=sys.stderr, flush=True)
    return code


def _drop_unwritable_output() -> None:
    """Let go of output that nobody takes, or Python complains about it again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
