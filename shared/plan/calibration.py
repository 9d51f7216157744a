"""How fast this machine is, measured once by a few small programs and kept in the user's cache folder.

An operation takes max(flops / rate, moved / bandwidth) + overhead (the roofline of Williams et al. 2009, with what
torch itself takes for each call). A plan has a time only where there is a calibration for the device and this torch.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from shared.errors import InputError
from shared.files import atomic_path
from shared.plan.estimate import Estimate

ENOUGH_SECONDS = 0.3  # of one measurement


@dataclass(frozen=True)
class Calibration:
    """single, half: floating-point operations a second in float32 and in bfloat16. bandwidth: bytes a second.
    overhead: seconds of an operation that does nothing.
    """

    single: float
    half: float
    bandwidth: float
    overhead: float

    def seconds(self, estimate: Estimate) -> float:
        """Of the whole run, loading and writing aside."""
        total = 0.0
        for times, ops in estimate.ops:
            for op in ops:
                rate = self.half if op.dtype.itemsize == 2 else self.single
                total += times * (max(op.flops / rate, op.moved / self.bandwidth) + self.overhead)
        return total


def calibrate(device: str = "cpu") -> Calibration:
    """Measures; takes a few seconds."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        picture = torch.zeros(8, 128, 32, 32, device=device, dtype=dtype)
        kernel = torch.zeros(128, 128, 3, 3, device=device, dtype=dtype)
        flops = 2 * picture.numel() * 128 * 9
        rates[dtype] = flops / _seconds(partial(functional.conv2d, picture, kernel, padding=1), device)
    large = torch.zeros(2**24, device=device)
    small = torch.zeros(1, device=device)
    with torch.no_grad():
        moved = 2 * large.numel() * large.element_size()
        bandwidth = moved / _seconds(lambda: large + 1.0, device)
        overhead = _seconds(lambda: small + 1.0, device)
    return Calibration(rates[torch.float32], rates[torch.bfloat16], bandwidth, overhead)


def place(device: str) -> Path:
    """The file of a device's calibration, in the user's cache folder. Other hardware and other torches have others."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinoform"
    name = torch.cuda.get_device_name(0) if device == "cuda" else platform.processor() or platform.machine()
    words = f"{device}-{name}-torch{torch.__version__}-threads{torch.get_num_threads()}"
    return cache / ("calibration-" + "".join(c if c.isalnum() or c in "-." else "_" for c in words) + ".json")


def save(calibration: Calibration, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(calibration)) + "\n", encoding="utf-8")


def load(path: Path) -> Calibration | None:
    """None where there is none. Raises InputError for a file that is no calibration."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(**{name: float(value) for name, value in values.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"calibration {path}", expected="four numbers", got=str(error), hint="Run: kinoform plan calibrate"
        ) from error
    if min(found.single, found.half, found.bandwidth) <= 0 or found.overhead < 0:
        raise InputError(f"calibration {path}", expected="numbers above 0", got=found, hint="kinoform plan calibrate")
    return found


def _seconds(call: Callable[[], object], device: str) -> float:
    """The least time of one call, of as many as fit into ENOUGH_SECONDS."""
    call()
    best, spent = float("inf"), 0.0
    while spent < ENOUGH_SECONDS:
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
        spent += time.perf_counter() - started
    return best
