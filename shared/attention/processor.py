"""Puts `attend` into diffusers networks.

diffusers' own `set_attention_backend` never reaches the processors of UNets and image autoencoders, so every
`Attention` of such a network gets one of the processors below.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from diffusers.models import attention_processor as stock
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from shared.attention.dispatch import attend, choose
from shared.errors import ModelError


class Processor:
    """What both processors share. `ran` counts the calls by the backend that ran."""

    def __init__(self, backend: str = "auto") -> None:
        self.backend = backend
        self.ran: Counter[str] = Counter()

    def attend(
        self, attn: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, mask_length: int
    ) -> Float[Tensor, "b n c"]:
        """Attention on "b heads n d". `mask` is diffusers' own: added to scores, "b 1 m" or "(b heads) n m"."""
        dtype = v.dtype
        if attn.upcast_attention:
            q, k, v = q.float(), k.float(), v.float()
        if mask is not None:
            mask = attn.prepare_attention_mask(mask, mask_length, q.shape[0])
            mask = rearrange(mask, "(b heads) n m -> b heads n m", heads=attn.heads)
        n, m = q.shape[2], k.shape[2]
        self.ran[choose(n, m, device=q.device, dtype=q.dtype) if self.backend == "auto" else self.backend] += 1
        out = attend(q, k, v, mask=mask, scale=attn.scale, backend=self.backend)
        return rearrange(out, "b heads n d -> b n (heads d)").to(dtype)


class AttendProcessor(Processor):
    """What diffusers' `AttnProcessor` computes, through `attend`."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b ..."],
        encoder_hidden_states: Float[Tensor, "b m e"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Float[Tensor, "b ..."]:
        """hidden_states: tokens "b n c" or a picture "b c h w"; the result has the same shape."""
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
        out = attn.to_out[0](self.attend(attn, q, k, v, attention_mask, context.shape[1]))
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
        out = attn.to_out[0](self.attend(attn, q, k, v, attention_mask, tokens.shape[1]))
        out = attn.to_out[1](out)
        return out.transpose(1, 2).reshape(residual.shape) + residual


PLAIN = (stock.AttnProcessor, stock.AttnProcessor2_0, stock.XFormersAttnProcessor, stock.SlicedAttnProcessor)
ADDED_KV = (
    stock.AttnAddedKVProcessor,
    stock.AttnAddedKVProcessor2_0,
    stock.XFormersAttnAddedKVProcessor,
    stock.SlicedAttnAddedKVProcessor,
)


def install_attention(network: nn.Module, backend: str = "auto") -> int:
    """Route every attention of a diffusers UNet or autoencoder through `attend`; returns how many there are.

    Raises ModelError, and changes nothing, if the network has a kind of attention that these processors do not compute.
    """
    found: list[tuple[Attention, Processor]] = []
    for name, module in network.named_modules():
        if not hasattr(module, "get_processor"):
            continue
        present = module.get_processor()
        if isinstance(present, (*PLAIN, AttendProcessor)):
            found.append((module, AttendProcessor(backend)))
        elif isinstance(present, (*ADDED_KV, AttendAddedKVProcessor)):
            found.append((module, AttendAddedKVProcessor(backend)))
        else:
            raise ModelError(f"attention {name}", expected="plain or added-key attention", got=type(present).__name__)
    for module, processor in found:
        module.set_processor(processor)
    return len(found)


def _heads(x: Tensor, attn: Attention) -> Tensor:
    return rearrange(x, "b n (heads d) -> b heads n d", heads=attn.heads)
