"""A decoder on one overlapping tile of its input after the other, as if it had seen the whole.

Memory is that of one tile. Three things in a convolutional decoder reach across tiles:

edges        At the edge of a tile convolutions see zeros where the picture goes on. CONTEXT latents at each inner edge
             are computed and not used; neighbours are blended over the RAMP latents between.
group norms  The mean and variance they divide by are those of the whole picture. Tiles cannot know them, so the tiles
             are run again, each time with what the last run found, until nothing changes: a network with n such norms
             is exact after n + 1 runs, since every run puts at least one more norm right.
             A norm over a whole clip, "b c t h w", is no different: every tile has all of its frames.
attention    Left to the caller, who can run it on the whole picture where there are few positions (the codec).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONTEXT = 6  # latents; what is beyond changes the pixels of the embedded model's decoder by less than 1/255
RAMP = 4
OVERLAP = 2 * CONTEXT + RAMP
SMALLEST_TILE = OVERLAP + RAMP
SETTLED = 1e-3  # change in a norm's mean and deviation, in deviations, below which there is no need to run again


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in latents: from `start` to `stop`; of it `core` belongs to no other tile."""

    start: int
    stop: int
    core: tuple[int, int]
    weights: Float[Tensor, " side"]


def decode_by_tiles(
    network: Callable[[Tensor], Tensor],
    z: Float[Tensor, "b c h w"],
    *,
    tile: int,
    factor: int,
    norms: Sequence[nn.GroupNorm] = (),
) -> Float[Tensor, "b d h*{factor} w*{factor}"]:
    """`network(z)`, computed on tiles with a side of `tile` latents, SMALLEST_TILE or more; differentiable.

    factor: output positions for each of z, along each side. norms: the group norms in `network`.
    """
    rows, columns = spans(z.shape[-2], tile), spans(z.shape[-1], tile)
    statistics = _Statistics()
    with _whole_picture_norms(norms, statistics):
        for _ in range(len(norms) + 1):
            statistics.begin()
            out = None
            for row, column in product(rows, columns):
                statistics.place(row, column)
                part = network(z[..., row.start : row.stop, column.start : column.stop])
                weights = (row.weights[:, None] * column.weights).to(part)
                weights = weights.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
                if out is None:
                    out = part.new_zeros((*part.shape[:2], z.shape[-2] * factor, z.shape[-1] * factor))
                area = out[..., row.start * factor : row.stop * factor, column.start * factor : column.stop * factor]
                area += part * weights
            if statistics.finish() <= SETTLED:
                break
    assert out is not None, "no tile"
    return out


def spans(length: int, tile: int) -> list[Span]:
    """Tiles along an axis: the last ends at `length`, neighbours overlap by OVERLAP or more, weights add up to 1."""
    if length <= tile:
        return [Span(0, length, (0, length), torch.ones(length))]
    starts = [*range(0, length - tile, tile - OVERLAP), length - tile]
    # Two neighbours meet in the middle of their overlap.
    meetings = [0, *((left + tile + right) // 2 for left, right in pairwise(starts)), length]
    found = []
    for i, start in enumerate(starts):
        core = meetings[i], meetings[i + 1]
        position = torch.arange(start, start + tile) + 0.5
        rise = ((position - core[0]) / RAMP + 0.5).clamp(0, 1) if i > 0 else torch.ones(tile)
        fall = ((core[1] - position) / RAMP + 0.5).clamp(0, 1) if core[1] < length else torch.ones(tile)
        found.append(Span(start, start + tile, core, rise + fall - 1))
    return found


class _Statistics:
    """Mean and variance of every group of every norm over the whole picture: those of the last run, and this run's."""

    def __init__(self) -> None:
        self.known: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}
        self._found: dict[nn.GroupNorm, list[tuple[int, Tensor, Tensor]]] = {}
        self._place: tuple[Span, Span] | None = None

    def begin(self) -> None:
        self._found = {}

    def place(self, row: Span, column: Span) -> None:
        self._place = row, column

    @torch.no_grad()
    def add(self, norm: nn.GroupNorm, x: Float[Tensor, "b c *t h w"]) -> None:
        """Count what lies in the core of the present tile."""
        assert self._place is not None, "no tile"
        cores = []
        for span, side in zip(self._place, x.shape[-2:], strict=True):
            scale = side // (span.stop - span.start)
            cores.append(slice((span.core[0] - span.start) * scale, (span.core[1] - span.start) * scale))
        groups = x[..., cores[0], cores[1]].float().flatten(2).reshape(len(x), norm.num_groups, -1)
        variance, mean = torch.var_mean(groups, dim=-1, correction=0)
        self._found.setdefault(norm, []).append((groups.shape[-1], mean.double(), variance.double()))

    def finish(self) -> float:
        """Put the tiles' numbers together; returns how far the whole's have moved since the last run."""
        moved = 0.0
        for norm, parts in self._found.items():
            total = sum(count for count, _, _ in parts)
            mean = torch.stack([count * mean for count, mean, _ in parts]).sum(0) / total
            squares = torch.stack([count * (variance + mean**2) for count, mean, variance in parts]).sum(0) / total
            variance = (squares - mean**2).clamp(min=0)
            if norm in self.known:
                before, spread = self.known[norm][0], (variance + norm.eps).sqrt()
                ratio = (self.known[norm][1] + norm.eps).sqrt() / spread
                moved = max(moved, float(((mean - before) / spread).abs().max()), float((ratio - 1).abs().max()))
            else:
                moved = float("inf")
            self.known[norm] = mean, variance
        return moved


@contextmanager
def _whole_picture_norms(norms: Sequence[nn.GroupNorm], statistics: _Statistics) -> Iterator[None]:
    """Inside, `norms` divide by what `statistics` knows (by what their input has, while that is nothing)."""

    def normalise(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        assert isinstance(norm, nn.GroupNorm)
        x = inputs[0]
        statistics.add(norm, x)
        if norm not in statistics.known:
            return None
        mean, variance = (value.to(x.device)[..., None] for value in statistics.known[norm])
        groups = x.float().flatten(2).reshape(len(x), norm.num_groups, -1)
        groups = (groups - mean.float()) * (variance + norm.eps).rsqrt().float()
        normal = groups.reshape(x.shape)
        if norm.affine:
            weight, bias = (v.to(x.device).float().view(-1, *[1] * (x.ndim - 2)) for v in (norm.weight, norm.bias))
            normal = normal * weight + bias
        return normal.to(output.dtype)

    handles = [norm.register_forward_hook(normalise) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
