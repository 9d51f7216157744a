"""What a choice of kernel depends on: the shapes, dtype and device of one attention, without its numbers.

Every attention is `rows` independent problems of `queries` x `keys` scores: a row is one head of one sample, or, for
attention over frames, one head at one position of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared.errors import InputError


@dataclass(frozen=True)
class Request:
    """positions: pixels that attend over their frames each by itself (`attend_frames`); None for `attend`.

    dim, dim_v: channels of a head of q and k, and of v. mask_gradient: the mask is learned (relative positions' bias).
    """

    batch: int
    heads: int
    queries: int
    keys: int
    dim: int
    dim_v: int
    positions: int | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mask: bool = False
    mask_gradient: bool = False

    @property
    def rows(self) -> int:
        return self.batch * self.heads * (1 if self.positions is None else self.positions)

    @property
    def scores(self) -> int:
        return self.rows * self.queries * self.keys

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute: no output, or none that depends on anything."""
        return 0 in (self.scores, self.dim_v)

    @property
    def flops(self) -> int:
        """Of the two products of the forward pass, a multiplication and an addition counted as two."""
        return 2 * self.scores * (self.dim + self.dim_v)

    @property
    def output_bytes(self) -> int:
        return self.rows * self.queries * self.dim_v * self.dtype.itemsize

    @property
    def input_bytes(self) -> int:
        return self.rows * (self.queries * self.dim + self.keys * (self.dim + self.dim_v)) * self.dtype.itemsize


def request_of(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Request:
    """The request that "b heads n d" tensors make, or "b t s heads d" ones.

    Raises InputError for shapes, dtypes or devices that do not go together.
    """
    frames = q.ndim == 5
    layout = "b t s heads d" if frames else "b heads n d"
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if any(len(shape) != (5 if frames else 4) for shape in shapes):
        raise InputError("attention", expected=f"q, k and v of shape {layout}", got=shapes)
    length = 1 if frames else 2
    same = [shape[:length] + shape[length + 1 : -1] for shape in shapes]
    if len(set(same)) > 1 or shapes[0][-1] != shapes[1][-1] or shapes[1][length] != shapes[2][length]:
        raise InputError(
            "attention", expected=f"{layout}: q, k and v alike but in their lengths, as many values as keys", got=shapes
        )
    for what in ("dtype", "device"):
        kinds = {getattr(x, what) for x in (q, k, v)}
        if len(kinds) > 1:
            raise InputError(f"attention: {what} of q, k and v", expected="one", got=sorted(map(str, kinds)))
    if not q.shape[-1]:
        raise InputError("attention", expected="q and k of one channel or more", got=shapes)
    if not q.dtype.is_floating_point:
        raise InputError("attention: dtype", expected="floating point", got=q.dtype)
    request = Request(
        batch=q.shape[0],
        heads=q.shape[3 if frames else 1],
        queries=q.shape[length],
        keys=k.shape[length],
        dim=q.shape[-1],
        dim_v=v.shape[-1],
        positions=q.shape[2] if frames else None,
        dtype=q.dtype,
        device=q.device,
        mask=mask is not None,
        mask_gradient=mask is not None and mask.requires_grad,
    )
    if mask is not None:
        _check_mask(mask, request)
    return request


def _check_mask(mask: Tensor, request: Request) -> None:
    full = (request.batch, request.heads, request.queries, request.keys)
    if mask.ndim != 4 or any(have not in (1, want) for have, want in zip(mask.shape, full, strict=True)):
        raise InputError("attention mask", expected=f"a shape that broadcasts to {full}", got=tuple(mask.shape))
    if mask.device != request.device:
        raise InputError("attention mask", expected=f"on {request.device}, as q is", got=f"on {mask.device}")
    if mask.dtype != torch.bool and not mask.dtype.is_floating_point:
        raise InputError("attention mask", expected="boolean, or floating point to add", got=mask.dtype)
