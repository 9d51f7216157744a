"""The pictures or clips that are to be learned: their latents and captions, and which of them a step sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from shared.errors import InputError
from shared.latents.codec import Codec
from shared.rng import generator
from shared.training.data.arrays import load_latents, load_media
from shared.training.data.groups import find_folders


@dataclass(frozen=True)
class Examples:
    """Scaled latents of all pictures, "c h w" each, or of all clips, "c t h w"; and a caption for each."""

    latents: Float[Tensor, "n ..."]
    captions: list[str]

    def draw(self, count: int, number: int, seed: int, *stream: int) -> Examples:
        """The `count` that batch `number` sees: all come once, in a new order, before any comes again."""
        places = range(number * count, (number + 1) * count)
        rounds = {place // len(self.captions) for place in places}
        orders = {r: torch.randperm(len(self.captions), generator=generator(seed, r, *stream)) for r in rounds}
        drawn = [int(orders[place // len(self.captions)][place % len(self.captions)]) for place in places]
        return Examples(self.latents[drawn], [self.captions[i] for i in drawn])

    def without_some_captions(self, share: float, draw: torch.Generator) -> Examples:
        """For classifier-free guidance: each caption is left out with the probability `share`."""
        dropped = (torch.rand(len(self.captions), generator=draw) < share).tolist()
        captions = ["" if drop else text for drop, text in zip(dropped, self.captions, strict=True)]
        return Examples(self.latents, captions)


def read_examples(data: Path, codec: Codec, size: int, caption: str | None) -> Examples:
    """The pictures below `data`, their middle squares at `size` pixels. caption: of those that have none.

    Raises InputError where there is no picture, for one without a caption where `caption` is None, and else as
    `find_folders` does.
    """
    groups = [group for group in find_folders(data, caption=caption) if group.kind == "picture"]
    if not groups:
        raise InputError(f"data folder {data}", expected="pictures", got="none")
    media = [load_media(group, size=size) for group in groups]
    latents = torch.cat([load_latents(folder, codec)[:, 0].float() for folder in media])
    return Examples(latents, [text for folder in media for text in folder.captions])
