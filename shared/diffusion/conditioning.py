"""What a denoising network is told beside noisy data and a timestep: one value, however many parts it has.

A `Denoiser` hands each part to its network under the network's own name for it. Samplers, guidance and windows know
the operations here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from shared.errors import InputError


@dataclass(frozen=True)
class Conditioning:
    """Conditions of b samples; what is None or empty is not said.

    text: states of the text encoder, n tokens of width d.
    pooled: one vector for the whole text.
    added: further conditions, "b ...", by the network's name for them, such as "time_ids": sizes and crops (Podell et
        al. 2023, section 2.2).
    labels: a class of each sample, such as a level of noise that is in what lies beside.
    beside: latents, masks: whatever is laid beside the channels of x_t (Rombach et al. 2022, section 3.3).
    frames: conditions of every frame of a clip, "b t ...", by the network's name for them, such as "moments".

    Raises InputError where they are not all of one batch.
    """

    text: Float[Tensor, "b n d"] | None = None
    pooled: Float[Tensor, "b p"] | None = None
    added: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Int[Tensor, " b"] | None = None
    beside: Float[Tensor, "b c ..."] | None = None
    frames: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {name: len(tensor) for name, tensor in self._tensors().items()}
        if len(set(sizes.values())) > 1:
            raise InputError("conditions", expected="all of one batch", got=sizes)

    @property
    def batch(self) -> int | None:
        """b; None where nothing is said, which goes with any number of samples."""
        return next((len(tensor) for tensor in self._tensors().values()), None)

    @property
    def device(self) -> torch.device | None:
        return next((tensor.device for tensor in self._tensors().values()), None)

    @property
    def parts(self) -> frozenset[str]:
        """Names of what is said: of fields, and of what `added` and `frames` hold."""
        return frozenset(self._tensors())

    def each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        """`change` of every part."""
        return _joined(lambda tensors: change(tensors[0]), [self])

    def to(self, device: torch.device | str) -> Conditioning:
        """On another device."""
        return self.each(lambda tensor: tensor.to(device))

    def __getitem__(self, samples: slice) -> Conditioning:
        return self.each(lambda tensor: tensor[samples])

    def expand(self, batch: int) -> Conditioning:
        """For `batch` samples: itself, or one sample's for all. Raises InputError for any other number."""
        if self.batch in (None, batch):
            return self
        if self.batch != 1:
            raise InputError("conditions", expected=f"one for each of {batch} samples, or one for all", got=self.batch)
        return self.each(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    def frames_of(self, part: slice) -> Conditioning:
        """That of some frames of a clip: of `frames`, and of `beside` where it has frames, "b c t h w"."""
        beside = self.beside[:, :, part] if self.beside is not None and self.beside.ndim == 5 else self.beside
        return replace(self, beside=beside, frames={name: tensor[:, part] for name, tensor in self.frames.items()})

    def with_frames(self, **conditions: Shaped[Tensor, "b t ..."]) -> Conditioning:
        """With these conditions of frames, over those of the same names."""
        return replace(self, frames={**self.frames, **conditions})

    def _tensors(self) -> dict[str, Tensor]:
        named = {name: value for f in fields(self) if isinstance(value := getattr(self, name := f.name), Tensor)}
        return {**named, **self.added, **self.frames}


NOTHING = Conditioning()


def stack(parts: Sequence[Conditioning]) -> Conditioning:
    """One batch of several, such as of no condition and the condition.

    Raises InputError where they do not say the same things: what one of them lacks cannot be made up.
    """
    said = {part.parts for part in parts}
    if len(said) > 1:
        raise InputError("conditions of one batch", expected="the same parts in each", got=[sorted(p) for p in said])
    return _joined(lambda tensors: torch.cat(list(tensors)), parts)


def _joined(join: Callable[[Sequence[Tensor]], Tensor], parts: Sequence[Conditioning]) -> Conditioning:
    """Field by field, and name by name."""

    def of(values: Sequence[object]) -> object:
        if isinstance(values[0], Tensor):
            return join(values)  # type: ignore[arg-type]
        if isinstance(values[0], Mapping):
            return {name: join([value[name] for value in values]) for name in values[0]}  # type: ignore[index]
        return None

    return Conditioning(**{f.name: of([getattr(part, f.name) for part in parts]) for f in fields(Conditioning)})  # type: ignore[arg-type]
