"""What this process holds in memory, as its system counts it. Imports no torch."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")  # Linux


def resident_bytes() -> int | None:
    """What it holds now; None where the system does not tell."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int | None:
    """The most that it has held so far; None where the system does not tell.

    Linux's `getrusage` is no measure of it: a process starts there with the peak of the one that started it.
    """
    if (peak := _status_bytes("VmHWM")) is not None:
        return peak
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status_bytes(key: str) -> int | None:
    if not STATUS.is_file():
        return None
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{key}:"), None)
