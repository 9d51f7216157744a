"""Attention over a few frames at very many positions, on a CPU: three batched products' worth of calls, nothing else.

torch's fused kernels are made for long sequences: on 16 frames they spend most of their time on what is around the
products. Here every problem, one position and head, is one small matrix of a single batched product, the scale and the
mask go into the product of the scores, and the softmax runs over all problems at once.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.kernels.torch_kernels import scores_dtype
from shared.attention.masks import safe_bias


def attend_frames_cpu(
    q: Float[Tensor, "b t s heads d"],
    k: Float[Tensor, "b u s heads d"],
    v: Float[Tensor, "b u s heads e"],
    *,
    mask: Shaped[Tensor, "#b #heads #t #u"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b t s heads e"]:
    """See `shared.attention.attend_frames`. Runs on any device; it holds all scores, which are few for few frames."""
    b, t, s, heads, _ = q.shape
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (rearrange(x, "b t s heads d -> (b s heads) t d") for x in (q, k, v))
    q, k = q.to(scores_dtype(v.dtype)), k.to(scores_dtype(v.dtype))
    if mask is None:
        nothing = q.new_zeros(()).expand(len(q), t, k.shape[1])
        weights = torch.baddbmm(nothing, q, k.transpose(1, 2), beta=0, alpha=scale).softmax(-1)
    else:
        bias, empty = (
            rearrange(x.expand(b, heads, t, -1)[:, None].expand(-1, s, -1, -1, -1), "b s heads t u -> (b s heads) t u")
            for x in safe_bias(mask.expand(-1, -1, -1, k.shape[1]), q.dtype)
        )
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
        weights = scores.softmax(-1).masked_fill(empty, 0.0)
    return rearrange(torch.bmm(weights.to(v.dtype), v), "(b s heads) t e -> b t s heads e", b=b, s=s, heads=heads)
