"""How fast this machine is, measured once by a few small programs and kept in the user's cache folder.

An operation takes at least max(flops / rate, moved / bandwidth) + overhead (the roofline of Williams et al. 2009, with
what torch itself takes for each call). How far real operations stay below that roof is read off one small network,
which is run and timed. A plan has a time only where there is a calibration for the device and this torch.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from shared.artifacts.files import atomic_path
from shared.errors import InputError
from shared.plan.estimate import Estimate
from shared.plan.tracker import Op, Tracker

ENOUGH_SECONDS = 0.3  # of one measurement
SMALL_BYTES = 2**25  # moved by an operation whose tensors stay in a CPU's caches, and its pages with the process


@dataclass(frozen=True)
class Calibration:
    """single, half: floating-point operations a second in float32 and in bfloat16. small, large: bytes a second of
    operations that move up to SMALL_BYTES, and more. overhead: seconds of an operation that does nothing. slowdown: the
    time of a network, forward and backward, over that of its roofline.
    """

    single: float
    half: float
    small: float
    large: float
    overhead: float
    slowdown: float = 1.0

    def seconds(self, estimate: Estimate) -> float:
        """Of the whole run, loading and writing aside."""
        return self.slowdown * sum(times * self.roofline(ops) for times, ops in estimate.ops)

    def roofline(self, ops: Iterable[Op]) -> float:
        """The seconds that operations take at least, one after the other."""
        total = 0.0
        for op in ops:
            rate = self.half if op.dtype.itemsize == 2 else self.single
            bandwidth = self.small if op.moved <= SMALL_BYTES else self.large
            total += max(op.flops / rate, op.moved / bandwidth) + self.overhead
        return total


def calibrate(device: str = "cpu") -> Calibration:
    """Measures; takes a few seconds."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        picture = torch.zeros(8, 128, 32, 32, device=device, dtype=dtype)
        kernel = torch.zeros(128, 128, 3, 3, device=device, dtype=dtype)
        flops = 2 * picture.numel() * 128 * 9
        rates[dtype] = flops / _seconds(partial(functional.conv2d, picture, kernel, padding=1), device)
    with torch.no_grad():
        small, large = (_bandwidth(torch.zeros(count, device=device), device) for count in (2**20, 2**24))
        nothing = torch.zeros(1, device=device)
        overhead = _seconds(lambda: nothing + 1.0, device)
    roof = Calibration(rates[torch.float32], rates[torch.bfloat16], small, large, overhead)
    run = _network(device)
    with Tracker(device) as tracker:
        run()
    return replace(roof, slowdown=_seconds(run, device) / roof.roofline(tracker.ops))


def _network(device: str) -> Callable[[], None]:
    """A small denoising network on a few pictures: a forward pass, and one with gradients."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    ).to(device)
    x, tokens = torch.zeros(16, 4, 16, 16, device=device), torch.zeros(16, 24, 128, device=device)

    def run() -> None:
        with torch.no_grad():
            unet(x, 0, encoder_hidden_states=tokens)
        unet(x, 0, encoder_hidden_states=tokens).sample.sum().backward()
        unet.zero_grad(set_to_none=True)

    return run


def place(device: str) -> Path:
    """The file of a device's calibration, in the user's cache folder. Other hardware and other torches have others."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinoform"
    name = torch.cuda.get_device_name(0) if device == "cuda" else platform.processor() or platform.machine()
    words = f"{device}-{name}-torch{torch.__version__}-threads{torch.get_num_threads()}"
    return cache / ("calibration-2-" + "".join(c if c.isalnum() or c in "-." else "_" for c in words) + ".json")


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
            f"calibration {path}", expected="six numbers", got=str(error), hint="Run: kinoform plan calibrate"
        ) from error
    if min(found.single, found.half, found.small, found.large, found.slowdown) <= 0 or found.overhead < 0:
        raise InputError(f"calibration {path}", expected="numbers above 0", got=found, hint="kinoform plan calibrate")
    return found


def _bandwidth(x: Tensor, device: str) -> float:
    """Bytes that a second moves, read and written, in sums over x."""
    return 2 * x.numel() * x.element_size() / _seconds(lambda: x + 1.0, device)


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
