"""Prompts to the conditioning of a UNet with two text encoders: Stable Diffusion XL's (Podell et al. 2023, section 2).

It hears both encoders' states before their last layer, side by side; one vector for the whole prompt, of the second;
and six numbers: the size of the picture, where it was cut from, and the size that it is to have.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from shared.compute.execution import execution_device
from shared.diffusion.conditioning import Conditioning
from shared.models.prompts.text import TextConditioner, TextEncoder, weighted

UNCUT = (0, 0)  # top and left of where a picture was cut from


class PairedText(TextConditioner):
    """The first tokenizer and encoder with a second one, which has a projection.

    zeros: whether the empty prompt is told as zeros, and not as what the encoders make of it.
    """

    def __init__(self, first: TextConditioner, second: TextConditioner, *, zeros: bool = True) -> None:
        super().__init__(first.tokenizer, first.text_encoder)
        self.second = second
        self.zeros = zeros

    @property
    def encoders(self) -> list[TextEncoder]:
        return [self.text_encoder, self.second.text_encoder]

    def conditions(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """What the UNet is told of prompts, for pictures of `size`: width and height in pixels."""
        text, pooled = self._read(prompts)
        width, height = size
        numbers = torch.tensor([height, width, *UNCUT, height, width], device=text.device, dtype=text.dtype)
        return Conditioning(text, pooled=pooled, added={"time_ids": numbers.expand(len(prompts), -1)})

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """The states of both, without what else the UNet is told."""
        return self._read(prompts)[0]

    def _read(self, prompts: list[str]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b p"]]:
        """States before the last layers, and the vector of the whole prompt."""
        states, pooled = [], torch.empty(0)
        for part, encoder in ((self, self.text_encoder), (self.second, self.second.text_encoder)):
            ids = part.token_ids(prompts).to(execution_device(encoder))
            read = encoder(ids, output_hidden_states=True)
            states.append(weighted(read.hidden_states[-2].float(), part.token_weights(prompts)))
            pooled = read[0].float()  # the second's: its projection
        text = torch.cat(states, dim=-1)
        if self.zeros:
            some = torch.tensor([bool(prompt) for prompt in prompts], device=text.device)
            text, pooled = text * some[:, None, None], pooled * some[:, None]
        return text, pooled
