"""Attention over frames on a CUDA device: bandwidth of the Triton kernel, against a copy and against torch's kernels.

    python -m benchmarks.attention_gpu [--json] [--dtype float16 bfloat16 float32]

The kernel is bound by memory: it must read q, k and v and write the output once, which gives its GB/s. `copy` is the
device's own copy of as many bytes. `sdpa` is torch's best fused kernel with the rearranges to and from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.report import Row, as_json, table
from shared.attention import attend_frames

# Clips, frames, positions, heads, channels a head; the last has 262,144 positions x heads.
SHAPES = (
    (2, 8, 4096, 8, 40), (2, 16, 4096, 8, 40), (2, 16, 1024, 8, 80), (2, 16, 256, 8, 160),
    (2, 32, 4096, 8, 64), (1, 64, 4096, 8, 64), (1, 16, 16384, 16, 64),
)  # fmt: skip
FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)
TARGET_T, TARGET_D = range(8, 33), range(40, 161)


def milliseconds(call: Callable[[], object]) -> float:
    """Median time on the device."""
    from triton.testing import do_bench

    return do_bench(call, warmup=50, rep=200, return_mode="median")


def best_sdpa(q: Tensor, k: Tensor, v: Tensor) -> float:
    """The fastest of torch's fused kernels that takes these inputs, in parts of at most 65,535 rows."""
    times = []
    for kernel in FUSED:

        def call(kernel: SDPBackend = kernel) -> Tensor:
            with sdpa_kernel(kernel):
                return attend_frames(q, k, v, backend="sdpa")

        try:
            call()
        except RuntimeError:
            continue
        times.append(milliseconds(call))
    return min(times)


def measure(shape: tuple[int, ...], dtype: torch.dtype) -> list[Row]:
    b, t, s, heads, d = shape
    projected = torch.randn(b, t, s, 3, heads, d, device="cuda", dtype=dtype, requires_grad=True)
    q, k, v = projected.unbind(3)
    name = f"{str(dtype).removeprefix('torch.')} b{b} t{t} s{s} heads{heads} d{d}"
    target = t in TARGET_T and d in TARGET_D
    upstream = torch.randn(b, t, s, heads, d, device="cuda", dtype=dtype)
    moved = 4 * q.numel() * dtype.itemsize
    whole = torch.empty(moved // 2, device="cuda", dtype=torch.uint8)
    into = torch.empty_like(whole)
    copy = moved / milliseconds(lambda: into.copy_(whole)) / 1e6
    with torch.no_grad():
        ours = milliseconds(lambda: attend_frames(q, k, v, backend="temporal"))
        theirs = best_sdpa(q, k, v)

    def both(backend: str) -> None:
        out = attend_frames(q, k, v, backend=backend)
        torch.autograd.grad(out, projected, upstream)

    share = moved / ours / 1e6 / copy
    speedup, trained = theirs / ours, milliseconds(lambda: both("sdpa")) / milliseconds(lambda: both("temporal"))
    nan = float("nan")
    return [
        Row(f"{name}: GB/s, of a copy's {copy:.0f}", moved / ours / 1e6, 1, nan, nan),
        Row(f"{name}: share of the copy's bandwidth", share, 1, nan, nan, 0.7 if target else None),
        Row(f"{name}: times as fast as sdpa", speedup, 1, nan, nan, 3.0 if target else None),
        Row(f"{name}: with the backward pass", trained, 1, nan, nan),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    parser.add_argument("--dtype", nargs="+", default=["float16", "bfloat16"])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("attention_gpu: expected a CUDA device, got none", file=sys.stderr)
        return 2
    rows = [row for name in arguments.dtype for shape in SHAPES for row in measure(shape, getattr(torch, name))]
    about = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "date": date.today().isoformat()}
    if arguments.json:
        print(as_json(rows, machine=about))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
