"""The way from an attention module to `attend`: with which backend, and a record of what ran."""

from __future__ import annotations

from collections import Counter

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.backends import BACKENDS
from shared.attention.dispatch import attend_and_tell
from shared.errors import InputError


class Route:
    """backend: "auto" or one of BACKENDS; InputError for others. ran: calls so far, by the backend that ran."""

    def __init__(self, backend: str = "auto") -> None:
        if backend not in ("auto", *BACKENDS):
            raise InputError("attention backend", expected=", ".join(("auto", *BACKENDS)), got=backend)
        self.backend = backend
        self.ran: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        return self.ran.total()

    def attend(
        self,
        q: Float[Tensor, "b heads n d"],
        k: Float[Tensor, "b heads m d"],
        v: Float[Tensor, "b heads m e"],
        *,
        mask: Shaped[Tensor, "#b #heads #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b heads n e"]:
        """See `shared.attention.attend`. Under autocast q, k and v may differ in dtype, as norms make them."""
        if len({q.dtype, k.dtype, v.dtype}) > 1 and torch.is_autocast_enabled(q.device.type):
            dtype = torch.get_autocast_dtype(q.device.type)
            q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        out, ran = attend_and_tell(q, k, v, mask=mask, scale=scale, backend=self.backend)
        self.ran[ran] += 1
        return out
