"""A video network: a frozen image UNet with temporal layers between its blocks (Blattmann et al. 2023, section 3.1).

The image UNet sees b clips of t frames as b t pictures. After each of its resnets stands a temporal convolution, after
each of its transformers a temporal attention (at levels without transformers, right after the convolution), so that

    z <- resnet(z);  z <- temporal convolution(z);  z <- transformer(z);  z <- temporal attention(z).

`TemporalLayers` holds the temporal weights alone: what is trained and saved. `VideoUNet` composes it with an image
UNet. With new temporal layers (every alpha = 1) the video network is the image network, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.errors import InputError, ModelError
from video.recipe import TRAINED_FRAMES
from video.temporal import FrameEmbedding, TemporalBlock, apply_over_frames
from video.windows import even_moments

SUPPORTED_BLOCKS = (
    "DownBlock2D",
    "CrossAttnDownBlock2D",
    "UNetMidBlock2DCrossAttn",
    "UpBlock2D",
    "CrossAttnUpBlock2D",
)


class TemporalLayers(ModelMixin, ConfigMixin):
    """The temporal layers for one shape of image UNet; only these weights train, and only these are saved.

    channels: width of each place where temporal layers stand, in the order in which the UNet runs through them.
    time_dim, text_dim: widths of the UNet's embedding of the noise level and of its prompt tokens.
    embed_dim: width of the conditioning e (see video/temporal.py). head_dim: width of one attention head.
    noise_share: the share of noise that all frames have in common, in training and sampling (see video/noise.py).
    frames: of the clips that the layers are trained on; the positions of all others are counted in these.
    """

    @register_to_config
    def __init__(
        self,
        channels: list[int],
        time_dim: int,
        text_dim: int,
        embed_dim: int = 128,
        head_dim: int = 32,
        noise_share: float = 0.0,
        frames: int = TRAINED_FRAMES,
    ) -> None:
        super().__init__()
        self.embedding = FrameEmbedding(time_dim, text_dim, embed_dim)
        self.blocks = nn.ModuleList(TemporalBlock(c, embed_dim, head_dim) for c in channels)

    @classmethod
    def for_unet(
        cls,
        unet: UNet2DConditionModel,
        *,
        embed_dim: int = 128,
        head_dim: int = 32,
        noise_share: float = 0.0,
        frames: int = TRAINED_FRAMES,
    ) -> TemporalLayers:
        """New temporal layers for `unet`, with widths read from it.

        Raises InputError for a UNet with blocks or conditioning other than those of Stable Diffusion 1 and 2.
        """
        check_supported(unet)
        return cls(
            channels=temporal_channels(unet),
            time_dim=unet.time_embedding.linear_2.out_features,
            text_dim=unet.config["cross_attention_dim"],
            embed_dim=embed_dim,
            head_dim=head_dim,
            noise_share=noise_share,
            frames=frames,
        )

    @property
    def noise_share(self) -> float:
        return self.config["noise_share"]

    def when(self, moments: Float[Tensor, "*batch t"], device: torch.device) -> Float[Tensor, "*batch t"]:
        """Moments of a clip, from 0 to 1, in frames as the layers were trained on."""
        return (moments.double() * (self.config["frames"] - 1)).to(device, torch.float32)

    def alphas(self) -> dict[str, float]:
        """Weight of the spatial features in every temporal layer, by the layer's name."""
        return {name: float(module.alpha) for name, module in self.named_modules() if hasattr(module, "gate")}


class VideoUNet(nn.Module):
    """Image UNet + temporal layers: a network on clips, `(x_t, t, tokens) -> prediction`, for a `Denoiser`.

    The UNet's weights are as they were given: frozen by `load_image_model`, for training; gradients still flow through
    its activations.
    checkpointing: for gradients keep what enters a spatial block and its temporal layers, and compute the rest again
    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    Raises InputError for a UNet that temporal layers do not know, ModelError where the two do not fit each other.
    """

    def __init__(self, unet: UNet2DConditionModel, temporal: TemporalLayers, *, checkpointing: bool = False) -> None:
        super().__init__()
        check_fit(unet, temporal)
        self.unet = unet
        self.temporal = temporal
        self.checkpointing = checkpointing

    @property
    def config(self) -> dict:
        """The image UNet's configuration (sample size, channels, prediction)."""
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def forward(
        self,
        x_t: Float[Tensor, "b c t h w"],
        t: Shaped[Tensor, " b"] | Shaped[Tensor, ""] | float,
        encoder_hidden_states: Float[Tensor, "b n d"],
        moments: Float[Tensor, "*batch t"] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """The UNet's prediction (of eps, v or x0, whichever it was trained for) for every frame.

        x_t: noisy latents, scaled. t: training timesteps, one a clip; some schedulers' are fractions.
        encoder_hidden_states: one prompt a clip.
        moments: when each frame is, of every clip or of all alike, from 0, where the clip begins, to 1, where it ends:
        for a part of a clip. Without them the frames are a whole clip, evenly spaced.
        """
        unet, b, frames = self.unet, x_t.shape[0], x_t.shape[2]
        when = self.temporal.when(even_moments(frames) if moments is None else moments, x_t.device)
        blocks = cast(Iterator[TemporalBlock], iter(self.temporal.blocks))
        unit: Callable[..., Tensor] = _unit
        if self.checkpointing and torch.is_grad_enabled():
            unit = partial(checkpoint, _unit, use_reentrant=False)
        timestep = torch.as_tensor(t, device=x_t.device).expand(b).repeat_interleave(frames)
        tokens = encoder_hidden_states.repeat_interleave(frames, dim=0)

        sample = rearrange(x_t, "b c t h w -> (b t) c h w")
        time = unet.time_embedding(unet.get_time_embed(sample, timestep))
        if unet.config.get("addition_embed_type") == "text":
            time = time + unet.add_embedding(tokens.to(unet.dtype))
        e = self.temporal.embedding(time[::frames], encoder_hidden_states, when)
        if unet.time_embed_act is not None:
            time = unet.time_embed_act(time)

        sample = unet.conv_in(2 * sample - 1.0 if unet.config["center_input_sample"] else sample)
        skips = [sample]
        for block in unet.down_blocks:
            for resnet, transformer in _pairs(block):
                sample = unit(sample, time, tokens, e, when, resnet, transformer, next(blocks))
                skips.append(sample)
            for downsampler in block.downsamplers or ():
                sample = downsampler(sample)
                skips.append(sample)

        if unet.mid_block is not None:
            for resnet, transformer in _pairs(unet.mid_block):
                sample = unit(sample, time, tokens, e, when, resnet, transformer, next(blocks))

        for block in unet.up_blocks:
            for resnet, transformer in _pairs(block):
                sample = torch.cat([sample, skips.pop()], dim=1)
                sample = unit(sample, time, tokens, e, when, resnet, transformer, next(blocks))
            for upsampler in block.upsamplers or ():
                # A picture whose size the network's strides do not divide comes back to the size of its skip.
                size = None if _divides(unet, x_t) else skips[-1].shape[2:]
                sample = upsampler(sample, size)

        if unet.conv_norm_out is not None:
            sample = unet.conv_act(unet.conv_norm_out(sample))
        return rearrange(unet.conv_out(sample), "(b t) c h w -> b c t h w", t=frames)


def _unit(
    z: Tensor,
    time: Tensor,
    tokens: Tensor,
    e: Tensor,
    when: Tensor,
    resnet: nn.Module,
    transformer: nn.Module | None,
    temporal: TemporalBlock,
) -> Tensor:
    """One spatial block and its temporal layers, frames as a batch of pictures."""
    z = apply_over_frames(temporal.conv, resnet(z, time), e, when)
    if transformer is not None:
        z = transformer(z, encoder_hidden_states=tokens, return_dict=False)[0]
    return apply_over_frames(temporal.attention, z, e, when)


def _pairs(block: Any) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """(resnet, the transformer that follows it or None) of a UNet block, in running order."""
    transformers = list(getattr(block, "attentions", ()))
    for i, resnet in enumerate(block.resnets):
        yield resnet, transformers[i] if i < len(transformers) else None


def _divides(unet: UNet2DConditionModel, x: Tensor) -> bool:
    return all(size % 2**unet.num_upsamplers == 0 for size in x.shape[-2:])


def temporal_channels(unet: UNet2DConditionModel) -> list[int]:
    """Width after each resnet of `unet`, in running order: one temporal block stands at each."""
    blocks = [*unet.down_blocks, *([unet.mid_block] if unet.mid_block is not None else []), *unet.up_blocks]
    return [resnet.out_channels for block in blocks for resnet in block.resnets]


def check_fit(unet: UNet2DConditionModel, temporal: TemporalLayers) -> None:
    """Raises InputError for a UNet that temporal layers do not know, ModelError where the two do not fit each other."""
    check_supported(unet)
    wanted = {
        "channels": temporal_channels(unet),
        "time_dim": unet.time_embedding.linear_2.out_features,
        "text_dim": unet.config["cross_attention_dim"],
    }
    got = {key: temporal.config[key] for key in wanted}
    got["channels"] = list(got["channels"])
    if wanted != got:
        raise ModelError("temporal layers do not fit the image network", expected=wanted, got=got)


def check_supported(unet: UNet2DConditionModel) -> None:
    """Raises InputError unless temporal layers know every block and every conditioning that `unet` has."""
    config = unet.config
    used = [*config["down_block_types"], *config["up_block_types"]]
    used += [config["mid_block_type"]] if config["mid_block_type"] else []
    for name in used:
        if name not in SUPPORTED_BLOCKS:
            raise InputError("image network for video", expected=f"blocks of {', '.join(SUPPORTED_BLOCKS)}", got=name)
    added = config.get("addition_embed_type")
    if added not in (None, "text"):
        raise InputError("image network for video", expected="addition_embed_type text or none", got=added)
    for key in ("class_embed_type", "encoder_hid_dim_type", "num_class_embeds"):
        if config.get(key) is not None:
            raise InputError("image network for video", expected=f"no {key}", got=config[key])
    if not isinstance(config["cross_attention_dim"], int):
        raise InputError(
            "image network for video", expected="one cross_attention_dim", got=config["cross_attention_dim"]
        )
