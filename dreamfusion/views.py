"""Where to look from (DreamFusion, appendix A.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shared.cameras import (
    ELEVATION,
    LIGHT_ELEVATION,
    LIGHT_SPREAD,
    OVERHEAD_ELEVATION,
    Cameras,
    direction,
    orbit,
)
from shared.view_words import view_word


@dataclass(frozen=True)
class Views:
    """Cameras with their directions in degrees, and a light for each: unit vectors towards it."""

    cameras: Cameras
    azimuth: tuple[float, ...]
    elevation: tuple[float, ...]
    light: Float[Tensor, "n 3"]

    def __len__(self) -> int:
        return len(self.azimuth)

    @property
    def words(self) -> list[str]:
        """The view words of each camera."""
        return [view_word(a, e) for a, e in zip(self.azimuth, self.elevation, strict=True)]

    def chosen(self, which: Sequence[int], size: int | None = None) -> Views:
        """Those of the given numbers, from 0, at their own size or another."""
        index = torch.tensor(list(which))
        cameras = self.cameras[index] if size is None else self.cameras[index].resized(size, size)
        azimuth, elevation = ([angles[i] for i in which] for angles in (self.azimuth, self.elevation))
        return Views(cameras, tuple(azimuth), tuple(elevation), self.light[index])


def make_views(
    azimuth: Float[Tensor, " n"], elevation: Float[Tensor, " n"], light: Float[Tensor, "n 3"], size: int
) -> Views:
    """Views from given angles (degrees), `size` pixels square."""
    cameras = orbit(azimuth, elevation, height=size, width=size)
    return Views(cameras, tuple(azimuth.tolist()), tuple(elevation.tolist()), light)


def sample_views(
    count: int, size: int, generator: torch.Generator, *, overhead_probability: float = 0.15, level: bool = False
) -> Views:
    """Random views: azimuths spread evenly around from a random start, elevations and lights as the world has them.

    overhead_probability: of looking down from OVERHEAD_ELEVATION instead of across from ELEVATION. level: all from the
    height of the first, exactly evenly around, each lit alike from where it stands.
    """
    draw = torch.rand(7, count, generator=generator)
    if level:
        draw[1] = 0.5
        draw[2:] = draw[2:, :1]
    share = (draw[0, 0] + (torch.arange(count) + 0.5 * (draw[1] - 0.5)) / count) % 1
    azimuth = 360 * share - 180
    across = ELEVATION[0] + (ELEVATION[1] - ELEVATION[0]) * draw[2]
    overhead = OVERHEAD_ELEVATION[0] + (OVERHEAD_ELEVATION[1] - OVERHEAD_ELEVATION[0]) * draw[3]
    elevation = torch.where(draw[4] < overhead_probability, overhead, across)
    light_elevation = LIGHT_ELEVATION[0] + (LIGHT_ELEVATION[1] - LIGHT_ELEVATION[0]) * draw[5]
    light = direction(azimuth + LIGHT_SPREAD * (2 * draw[6] - 1), light_elevation)
    return make_views(azimuth, elevation, light, size)


def around(count: int, size: int, *, elevation: float = 20.0, start: float = 0.0, span: float = 360.0) -> Views:
    """`count` views evenly around the object, or over `span` degrees, from azimuth `start` on, each lit from above its
    right shoulder."""
    azimuth = start + torch.arange(count) * (span / count)
    light = direction(azimuth + 30.0, torch.full((count,), 50.0))
    return make_views(azimuth, torch.full((count,), elevation), light, size)
