"""Temporal layers between the blocks of an image UNet, by hooks: the UNet runs its own forward.

Whatever diffusers and accelerate do to a UNet (offloading, FreeU, layerwise casting, other processors) holds for clips
as well. Outside of a pass that is `active`, the hooks do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass
class Pass:
    """One forward pass on clips. tokens: one prompt a clip. when, e: see `video.temporal`; e comes with the UNet's
    embedding of the noise level. known: see `video.frames.known`. camera: see `video.frames.cameras`."""

    tokens: Float[Tensor, "b n d"]
    when: Float[Tensor, "*batch t"]
    known: Float[Tensor, "b t k h w"] | None = None
    camera: Float[Tensor, "b t 2"] | None = None
    e: Float[Tensor, "b t e"] | None = None


class Insertion:
    """Hooks that run `temporal.blocks[i]` after the i-th of `pairs`: (resnet, the transformer that follows it or None).

    One pass at a time: a UNet is no place for two threads.
    """

    def __init__(
        self, unet: UNet2DConditionModel, temporal: Any, pairs: Sequence[tuple[nn.Module, nn.Module | None]]
    ) -> None:
        self.unet = unet
        self.temporal = temporal
        self._pass: Pass | None = None
        # Where the embedding of the noise level is whole, and still without an activation.
        embedding = unet.time_embed_act if unet.time_embed_act is not None else unet.down_blocks[0]
        self._handles = [
            embedding.register_forward_pre_hook(self._told_time, with_kwargs=True),
            unet.conv_in.register_forward_hook(self._told_known),
        ]
        for block, (resnet, transformer) in zip(temporal.blocks, pairs, strict=True):
            first = ("conv", "attention") if transformer is None else ("conv",)
            self._handles.append(resnet.register_forward_hook(partial(self._after, block, first)))
            if transformer is not None:
                self._handles.append(transformer.register_forward_hook(partial(self._after, block, ("attention",))))

    def remove(self) -> None:
        """The UNet is as it was before."""
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def active(
        self,
        tokens: Float[Tensor, "b n d"],
        when: Float[Tensor, "*batch t"],
        known: Float[Tensor, "b t k h w"] | None = None,
        camera: Float[Tensor, "b t 2"] | None = None,
    ) -> Iterator[None]:
        """Inside, what the UNet is given are the frames of clips."""
        with self._during(Pass(tokens, when, known, camera)), self._recomputed():
            yield

    @contextmanager
    def _during(self, current: Pass | None) -> Iterator[None]:
        before, self._pass = self._pass, current
        try:
            yield
        finally:
            self._pass = before

    def _told_time(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._pass is not None:
            time = kwargs["temb"] if "temb" in kwargs else args[0]
            clips = len(self._pass.tokens)
            self._pass.e = self.temporal(
                time[:: len(time) // clips], self._pass.tokens, self._pass.when, self._pass.camera
            )

    def _told_known(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._pass is None or self._pass.known is None:
            return None
        return output + self.temporal.known(self._pass.known.to(output.dtype))

    def _after(
        self, block: nn.Module, layers: Sequence[str], module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> Any:
        """Runs `layers` of a temporal block on what a spatial one returns."""
        if self._pass is None:
            return None
        told = output if isinstance(output, Tensor) else output[0], self._pass.e, self._pass.when, layers
        # A resnet is computed again as a whole, with its hook; a transformer is not.
        again = layers == ("attention",) and torch.is_grad_enabled() and self.unet.is_gradient_checkpointing
        z = checkpoint(block, *told, use_reentrant=False) if again else block(*told)
        return z if isinstance(output, Tensor) else (z, *output[1:])

    @contextmanager
    def _recomputed(self) -> Iterator[None]:
        """Inside, what diffusers computes again for gradients runs in the pass that it ran in first."""
        current = self._pass

        def run_again(module: nn.Module, *args: Any) -> Any:
            def run(*args: Any) -> Any:
                with self._during(current):
                    return module(*args)

            return checkpoint(run, *args, use_reentrant=False)

        found = [module for module in self.unet.modules() if getattr(module, "gradient_checkpointing", False)]
        before = [module._gradient_checkpointing_func for module in found]
        for module in found:
            module._gradient_checkpointing_func = run_again
        try:
            yield
        finally:
            for module, function in zip(found, before, strict=True):
                module._gradient_checkpointing_func = function
