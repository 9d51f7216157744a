"""The noise of one batch of samples, at the start and in every step: one generator a sample, one way to draw.

Ancestral and stochastic schedulers add noise as they step, drawn with `torch.randn` from the generators that they are
given. Where the noise of a sample has a structure of its own (the part that all frames of a clip share), theirs
must have it too. So within `answering()` torch.randn with one of the batch's generators is answered by `draw`:
a `TorchFunctionMode`, torch's own means for that, as in `shared.attention.routing.torch_call`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


def standard_normal(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Independent numbers, float32, where the generator is."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)


@dataclass(frozen=True)
class Noise:
    """generators: one a sample; the same one twice gives two samples noise of one stream. shape: of one sample.

    draw: (shape, generator) -> standard normal numbers of that shape.
    """

    generators: Sequence[torch.Generator]
    shape: tuple[int, ...]
    draw: Draw = standard_normal

    def start(self, device: str | torch.device) -> Float[Tensor, "b ..."]:
        """What the samples start from."""
        return torch.stack([self.draw(self.shape, own).to(device) for own in self.generators])

    def answering(self) -> TorchFunctionMode:
        """While entered, what is drawn with a sample's generator, in the sample's shape, is drawn by `draw`."""
        return _Answering(self)


class _Answering(TorchFunctionMode):
    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    @no_type_check  # by the test run, which would check it at every call of torch
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.randn and args and tuple(args[0]) == (1, *self.noise.shape):
            own = kwargs.get("generator")
            if own is not None and any(own is known for known in self.noise.generators):
                drawn = self.noise.draw(self.noise.shape, own)[None]
                return drawn.to(kwargs.get("device"), kwargs.get("dtype") or drawn.dtype)
        return func(*args, **kwargs)
