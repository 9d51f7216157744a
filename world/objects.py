"""What an object of the world is, and the 10 colours it can have (`world.catalogue` has the objects).

An object is a handful of solid parts. `main` parts take the colour that the prompt names; the few others have a fixed
tone (wheels are dark, a beak is orange). Every object fits a ball of radius 1.2, faces +z where it has a front,
and stands along +y.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from world.sdf import Sdf

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (0.88, 0.08, 0.08),
    "orange": (1.0, 0.48, 0.02),
    "yellow": (0.98, 0.88, 0.1),
    "green": (0.1, 0.65, 0.15),
    "cyan": (0.1, 0.85, 0.88),
    "blue": (0.1, 0.2, 0.9),
    "purple": (0.5, 0.1, 0.72),
    "pink": (1.0, 0.5, 0.75),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.06),
}

DARK: RGB = (0.13, 0.13, 0.15)
LIGHT: RGB = (0.9, 0.88, 0.82)
WOOD: RGB = (0.42, 0.26, 0.13)
BEAK: RGB = (0.95, 0.55, 0.1)
GLASS: RGB = (0.55, 0.75, 0.85)


@dataclass(frozen=True)
class Part:
    """One solid; `tone` None means the colour that the prompt names."""

    solid: Sdf
    tone: RGB | None = None


@dataclass(frozen=True)
class WorldObject:
    """A named object.

    floor, ceiling: lowest and highest y, for putting things on top of each other.
    half_width: largest |x|, for putting things next to each other.
    has_front: front, side and back differ, so view words mean something.
    round: unchanged by turning about y, so "spinning" cannot be seen.
    pairs: appears with another object, too.
    """

    name: str
    parts: tuple[Part, ...]
    floor: float
    ceiling: float
    half_width: float
    has_front: bool = False
    round: bool = False
    pairs: bool = False

    def distance(self, p: Float[Tensor, "... 3"]) -> Float[Tensor, "..."]:
        """Signed distance to the whole object."""
        result = self.parts[0].solid(p)
        for part in self.parts[1:]:
            result = torch.minimum(result, part.solid(p))
        return result

    def nearest_part(self, p: Float[Tensor, "... 3"]) -> Int[Tensor, "..."]:
        """Index of the part closest to each point."""
        return torch.stack([part.solid(p) for part in self.parts]).argmin(dim=0)

    def palette(self, colour: RGB) -> Float[Tensor, "parts 3"]:
        """Albedo of each part when the prompt names `colour`."""
        return torch.tensor([colour if part.tone is None else part.tone for part in self.parts])
