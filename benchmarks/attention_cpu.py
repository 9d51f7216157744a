"""Attention on this CPU: the path over frames against diffusers' temporal transformer, and memory of the spatial one.

    python -m benchmarks.attention_cpu [--json] [--threads N]

Over frames, at equal weights: the attention layer of a `TransformerTemporalModel`, from pictures "(b t) c h w" to such
(it brings the frames of a position next to each other, projects, attends, projects, and brings them back), against
that of our temporal layers, on the same features in the channels-last order that Kinoform's networks keep. Medians of
runs that take turns. Memory: a fresh process for each backend, its largest resident size less that before (Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import TransformerTemporalModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from benchmarks.report import Row, as_json, table
from benchmarks.speed import machine
from shared.attention import attend_frames
from video.temporal import TemporalAttentionBlock

# Clips, frames, side of a picture, heads, channels a head: two levels of the embedded model, three of a 512x512 clip.
LAYERS = ((2, 16, 16, 2, 32), (2, 16, 8, 4, 32), (1, 16, 32, 8, 40), (1, 16, 16, 8, 80), (1, 32, 16, 8, 80))
REPEATS = 15
SPATIAL = {"batch": 16, "heads": 8, "tokens": 4096, "dim": 40}  # of a 512x512 clip's first level, without guidance


def stock_layer(attention: Attention, frames: int, x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h w"]:
    """As `TransformerTemporalModel.forward` goes about it, its norms and feed-forward layers left out."""
    h, w = x.shape[-2:]
    rows = rearrange(x, "(b t) c h w -> (b h w) t c", t=frames)
    return rearrange(attention(rows), "(b h w) t c -> (b t) c h w", h=h, w=w).contiguous()


def our_layer(block: TemporalAttentionBlock, frames: int, x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h w"]:
    """The same between pictures in channels-last memory format, as Kinoform's networks hold them."""
    h, w = x.shape[-2:]
    out = block.attended(rearrange(x, "(b t) c h w -> b t (h w) c", t=frames))
    return rearrange(out, "b t (h w) c -> (b t) c h w", h=h, w=w)


def with_weights_of(attention: Attention) -> TemporalAttentionBlock:
    """Our block with the projections of diffusers' attention."""
    channels = attention.to_q.in_features
    block = TemporalAttentionBlock(channels, embed_dim=8, head_dim=channels // attention.heads)
    qkv = torch.cat([layer.weight for layer in (attention.to_q, attention.to_k, attention.to_v)])
    block.to_qkv.load_state_dict({"weight": qkv})
    block.to_out.load_state_dict(attention.to_out[0].state_dict())
    return block.to(qkv.dtype)


def stock_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rearrange, fused kernel, rearrange."""
    rows = (rearrange(x, "b t s heads d -> (b s) heads t d").contiguous() for x in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(*rows)
    return rearrange(out, "(b s) heads t d -> b t s heads d", s=q.shape[2]).contiguous()


def ratio(metric: str, theirs: Callable[[], object], ours: Callable[[], object], aim: float | None) -> Row:
    """Median time of theirs over that of ours; low and high are the quartiles of the ratio of runs side by side."""
    times = np.empty((REPEATS, 2))
    for turn in range(-2, REPEATS):  # two turns to warm up
        for side, call in enumerate((theirs, ours)):
            started = time.perf_counter()
            call()
            if turn >= 0:
                times[turn, side] = time.perf_counter() - started
    low, high = np.percentile(times[:, 0] / times[:, 1], [25, 75])
    a, b = np.median(times, axis=0) * 1e3
    return Row(f"{metric} ({a:.1f} ms / {b:.1f} ms)", a / b, REPEATS, low, high, aim)


@torch.no_grad()
def measure_layer(b: int, t: int, side: int, heads: int, d: int, dtype: torch.dtype) -> list[Row]:
    channels = heads * d
    model = TransformerTemporalModel(heads, d, in_channels=channels, num_layers=1, norm_num_groups=8)
    attention = model.transformer_blocks[0].attn1.to(dtype)
    attention.set_processor(AttnProcessor2_0())
    block = with_weights_of(attention)
    x = torch.randn(b * t, channels, side, side, dtype=dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    error = (stock_layer(attention, t, x) - our_layer(block, t, last)).abs().max()
    assert error < (1e-4 if dtype == torch.float32 else 5e-2), f"the two differ by {error}"
    q, k, v = (torch.randn(b, t, side * side, heads, d, dtype=dtype) for _ in range(3))
    name = f"{str(dtype).removeprefix('torch.')}, {b} x {t} frames of {side}x{side}, {heads} x {d} channels"
    return [
        ratio(f"layer: {name}", lambda: stock_layer(attention, t, x), lambda: our_layer(block, t, last), 1.5),
        ratio(f"alone: {name}", lambda: stock_attention(q, k, v), lambda: attend_frames(q, k, v), None),
    ]


PEAK = """
import torch
from pathlib import Path
from shared.attention import attend
from shared.compute.process_memory import peak_bytes, resident_bytes

b, heads, n, d = {batch}, {heads}, {tokens}, {dim}
q, k, v = (torch.randn(b, heads, n, d) for _ in range(3))
small = [x[:1, :1, :8] for x in (q, k, v)]
attend(*small, backend="{backend}" if "{backend}" != "plain" else "eager")
Path("/proc/self/clear_refs").write_text("5")  # the largest resident size counts from here
before = resident_bytes()
with torch.no_grad():
    if "{backend}" == "plain":
        out = (q @ k.transpose(-1, -2) * d**-0.5).softmax(-1) @ v
    else:
        out = attend(q, k, v, backend="{backend}")
print((peak_bytes() - before) / 2**20)
"""


def peak_mib(backend: str) -> float:
    """What one spatial attention adds to a fresh process, in MiB; "plain" is all frames' scores at once, as diffusers'
    `AttnProcessor` holds them, but measured on one frame and multiplied, for 16 of them would not fit here."""
    shape = dict(SPATIAL)
    frames = shape["batch"]
    if backend == "plain":
        shape["batch"] = 1
    code = PEAK.format(backend=backend, **shape)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout) * (frames if backend == "plain" else 1)


def measure_memory() -> list[Row]:
    plain = peak_mib("plain")
    rows = [Row("spatial attention, all scores at once, MiB", plain, 1, plain, plain)]
    for backend in ("eager", "chunked", "sdpa"):
        peak = peak_mib(backend)
        aim = 1 / 20 if backend == "chunked" else None
        share = peak / plain
        rows.append(
            Row(f"spatial attention, {backend}: share of that ({peak:.0f} MiB)", share, 1, share, share, aim, True)
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_cpu", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    parser.add_argument("--only", choices=("layers", "memory"), help="one half of it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtypes = (torch.float32, torch.bfloat16)
    rows = []
    if arguments.only != "memory":
        rows += [row for dtype in dtypes for layer in LAYERS for row in measure_layer(*layer, dtype)]
    if arguments.only != "layers":
        rows += measure_memory()
    about = {**machine(), "threads": arguments.threads}
    if arguments.json:
        print(as_json(rows, machine=about))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table(rows).replace("95% interval", " quartiles  "))
    return 0


if __name__ == "__main__":
    sys.exit(main())
