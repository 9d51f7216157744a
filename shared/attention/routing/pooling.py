"""diffusers' attention pooling (a UNet's `add_embedding` of the prompt), through `attend`."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import AttentionPooling
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from shared.attention.routing.route import Route


class AttendPooling(AttentionPooling):
    """The stock module, whose instances become this class, attending by `route`."""

    route: Route

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
        """One query, the tokens' mean with a learned offset, attends to itself and to the tokens."""
        query = x.mean(dim=1, keepdim=True) + self.positional_embedding.to(x.dtype)
        tokens = torch.cat([query, x], dim=1)
        q, k, v = (
            rearrange(part, "b n (heads d) -> b heads n d", heads=self.num_heads)
            for part in (self.q_proj(query), self.k_proj(tokens), self.v_proj(tokens))
        )
        return rearrange(self.route.attend(q, k, v), "b heads 1 d -> b (heads d)")
