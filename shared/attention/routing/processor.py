"""diffusers' processors of UNets and image autoencoders, through `attend`.

Among their stock processors are some that form all scores, or slice them, so each gets one of the two below.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from shared.attention.routing.route import Route


class Processor(Route):
    """What both processors share."""

    def mixed(
        self, attn: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, mask_length: int
    ) -> Float[Tensor, "b n c"]:
        """Attention on "b heads n d". `mask` is diffusers' own: "b m", "b 1 m", "(b heads) n m" or "b 1 n m"."""
        dtype = v.dtype
        if attn.upcast_attention:
            q, k, v = q.float(), k.float(), v.float()
        if mask is not None:
            mask = attn.prepare_attention_mask(mask, mask_length, q.shape[0])
            mask = mask.view(q.shape[0], attn.heads, -1, mask.shape[-1])
        out = self.attend(q, k, v, mask=mask, scale=attn.scale)
        return rearrange(out, "b heads n d -> b n (heads d)").to(dtype)


class AttendProcessor(Processor):
    """What diffusers' `AttnProcessor` computes, through `attend`."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b ..."],
        encoder_hidden_states: Float[Tensor, "runs m e"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Float[Tensor, "b ..."]:
        """hidden_states: tokens "b n c" or a picture "b c h w"; the result has the same shape.

        encoder_hidden_states: one for each of b, or for each run of neighbours, such as the frames of a clip: it is
        projected once for all of them then.
        """
        residual = hidden_states
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        picture = hidden_states.shape if hidden_states.ndim == 4 else None
        if picture is not None:
            hidden_states = rearrange(hidden_states, "b c h w -> b (h w) c")
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)

        q, k, v = (_heads(x, attn) for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        if len(k) < len(q):
            q = rearrange(q, "(runs t) heads n d -> runs heads (t n) d", runs=len(k))
        out = self.mixed(attn, q, k, v, attention_mask, context.shape[1])
        out = attn.to_out[0](out.reshape(*hidden_states.shape[:2], -1))
        out = attn.to_out[1](out)
        if picture is not None:
            out = rearrange(out, "b (h w) c -> b c h w", h=picture[2])
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


class AttendAddedKVProcessor(Processor):
    """What diffusers' `AttnAddedKVProcessor` computes (text keys beside the picture's own), through `attend`."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b c h w"],
        encoder_hidden_states: Float[Tensor, "b m e"] | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Float[Tensor, "b c h w"]:
        residual = hidden_states
        tokens = hidden_states.flatten(2).transpose(1, 2)
        context = tokens if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        q = _heads(attn.to_q(tokens), attn)
        k, v = _heads(attn.add_k_proj(context), attn), _heads(attn.add_v_proj(context), attn)
        if not attn.only_cross_attention:
            k = torch.cat([k, _heads(attn.to_k(tokens), attn)], dim=2)
            v = torch.cat([v, _heads(attn.to_v(tokens), attn)], dim=2)
        out = attn.to_out[0](self.mixed(attn, q, k, v, attention_mask, tokens.shape[1]))
        out = attn.to_out[1](out)
        return out.transpose(1, 2).reshape(residual.shape) + residual


def _heads(x: Tensor, attn: Attention) -> Tensor:
    return rearrange(x, "b n (heads d) -> b heads n d", heads=attn.heads)
