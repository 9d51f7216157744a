"""A video network: a frozen image UNet with temporal layers between its blocks (Blattmann et al. 2023, section 3.1).

The image UNet sees b clips of t frames as b t pictures. After each of its resnets stands a temporal convolution, after
each of its transformers a temporal attention (where no transformer follows, right after the convolution), so that

    z <- resnet(z);  z <- temporal convolution(z);  z <- transformer(z);  z <- temporal attention(z).

`TemporalLayers` holds the temporal weights alone: what is trained and saved. `VideoUNet` inserts them into an image
UNet (`video.insertion`). With new temporal layers (every alpha = 1) the video network is the image network, bit for
bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shared.compute.modes import checkpointed
from shared.diffusion.denoiser import ADDED
from shared.errors import InputError, ModelError
from video.clip_network import ClipNetwork, frame_by_frame, tokens_of_frames
from video.frames.embedding import FrameEmbedding
from video.frames.known import KnownFrames
from video.frames.windows import even_moments
from video.insertion import Insertion
from video.recipe import TRAINED_FRAMES
from video.temporal import TemporalBlock


class TemporalLayers(ModelMixin, ConfigMixin):
    """The temporal layers for one shape of image UNet; only these weights train, and only these are saved.

    channels: width of each place where temporal layers stand, in the order in which the UNet runs through them.
    time_dim, text_dim: widths of the UNet's embedding of the noise level and of its prompt tokens.
    embed_dim: width of the conditioning e (see video/temporal.py). head_dim: width of one attention head.
    noise_share: of noise that all frames have in common, in training and sampling (see video/frames/noise.py).
    frames: of the clips that the layers are trained on; the positions of all others are counted in these.
    space_time: at which of the places attention runs over space and time together, too; nowhere for None.
    known_channels: of the latents of frames that may be given (see video/frames/known.py); 0 where none may.
    cameras: whether frames may be told their camera (see video/frames/cameras.py).
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
        space_time: list[bool] | None = None,
        known_channels: int = 0,
        cameras: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = FrameEmbedding(time_dim, text_dim, embed_dim, cameras=cameras)
        self.blocks = nn.ModuleList(
            TemporalBlock(c, embed_dim, head_dim, space_time=both)
            for c, both in zip(channels, space_time or [False] * len(channels), strict=True)
        )
        self.known = KnownFrames(known_channels, channels[0]) if known_channels else None

    @classmethod
    def for_unet(
        cls,
        unet: UNet2DConditionModel,
        *,
        embed_dim: int = 128,
        head_dim: int = 32,
        noise_share: float = 0.0,
        frames: int = TRAINED_FRAMES,
        space_time_levels: int = 0,
        known: bool = False,
        cameras: bool = False,
    ) -> TemporalLayers:
        """New temporal layers for `unet`, with widths read from it.

        space_time_levels: of how many of its levels, from the lowest, attention runs over space and time together.
        known: whether frames may be given. cameras: whether they may be told their camera.
        Raises InputError for a UNet that temporal layers cannot stand in (`check_supported`).
        """
        check_supported(unet)
        return cls(
            channels=temporal_channels(unet),
            time_dim=unet.time_embedding.linear_2.out_features,
            text_dim=text_dim(unet),
            embed_dim=embed_dim,
            head_dim=head_dim,
            noise_share=noise_share,
            frames=frames,
            space_time=lowest_places(unet, space_time_levels),
            known_channels=unet.config["in_channels"] if known else 0,
            cameras=cameras,
        )

    @property
    def noise_share(self) -> float:
        return self.config["noise_share"]

    def forward(
        self,
        time: Float[Tensor, "b time"],
        tokens: Float[Tensor, "b n d"],
        when: Float[Tensor, "*batch t"],
        camera: Float[Tensor, "b t 2"] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """What every temporal layer of a pass is told of each frame."""
        return self.embedding(time, tokens, when, camera)

    def when(self, moments: Float[Tensor, "*batch t"], device: torch.device) -> Float[Tensor, "*batch t"]:
        """Moments of a clip, from 0 to 1, in frames as the layers were trained on."""
        return (moments.double() * (self.config["frames"] - 1)).to(device, torch.float32)

    def alphas(self) -> dict[str, float]:
        """Weight of the spatial features in every temporal layer, by the layer's name."""
        return {name: float(module.alpha) for name, module in self.named_modules() if hasattr(module, "gate")}


class VideoUNet(ClipNetwork):
    """Image UNet + temporal layers: a network on clips, `(x_t, t, tokens) -> prediction`, for a `Denoiser`.

    The UNet's weights are as they were given: frozen by `load_image_model`, for training; gradients still flow through
    its activations. It stays an image network for whoever else calls it, between two passes of this one.
    checkpointing: for gradients keep what enters resnets, transformer blocks and temporal layers, and compute the rest
    again (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    Raises InputError for a UNet that temporal layers do not know, ModelError where the two do not fit each other.
    """

    def __init__(self, unet: UNet2DConditionModel, temporal: TemporalLayers, *, checkpointing: bool = False) -> None:
        super().__init__()
        check_fit(unet, temporal)
        self.unet = unet
        self.temporal = temporal
        self.checkpointing = checkpointing
        self._insertion = Insertion(unet, temporal, list(spatial_pairs(unet)))
        # The hooks go with this network: the UNet may live longer.
        weakref.finalize(self, self._insertion.remove)

    @property
    def noise_share(self) -> float:
        return self.temporal.noise_share

    def forward(
        self,
        x_t: Float[Tensor, "b c t h w"],
        t: Shaped[Tensor, " b"] | Shaped[Tensor, ""] | float,
        encoder_hidden_states: Float[Tensor, "b n d"],
        moments: Float[Tensor, "*batch t"] | None = None,
        known: Float[Tensor, "b t k h w"] | None = None,
        camera: Float[Tensor, "b t 2"] | None = None,
        frame_text: Float[Tensor, "b t n d"] | None = None,
        added_cond_kwargs: dict[str, Shaped[Tensor, "b ..."]] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """The UNet's prediction (of eps, v or x0, whichever it was trained for) for every frame.

        x_t: noisy latents, scaled. t: training timesteps, one a clip; some schedulers' are fractions.
        encoder_hidden_states: one prompt a clip.
        moments: when each frame is, of every clip or of all alike, from 0, where the clip begins, to 1, where it ends:
        for a part of a clip. Without them the frames are a whole clip, evenly spaced.
        known: the frames that are given (see video/frames/known.py). camera: azimuth and elevation, in degrees, from
        which each frame looks at what stands still (see video/frames/cameras.py): there are no moments then. Raises
        ModelError where the layers have learned of no such thing.
        frame_text: a prompt for each frame, in place of the clip's for the UNet's own layers; temporal ones hear that.
        added_cond_kwargs: what an SDXL-shaped UNet is told beside the prompt, one of each a clip.
        """
        frames = x_t.shape[2]
        for what, said, heard, key in (
            ("given frames", known, self.temporal.known, "known"),
            ("cameras", camera, self.temporal.embedding.camera, "views"),
        ):
            if said is not None and heard is None:
                raise ModelError(
                    what,
                    expected="a model trained to know them",
                    got="one that was not",
                    hint=f"kinoform train video --{key}-share 0.3",
                )
        if moments is None:
            moments = even_moments(frames) if camera is None else torch.zeros(frames)
        when = self.temporal.when(moments, x_t.device)
        tokens = tokens_of_frames(encoder_hidden_states, frame_text, frames)
        recomputed = self.checkpointing and torch.is_grad_enabled()
        with checkpointed(self.unet, recomputed), self._insertion.active(encoder_hidden_states, when, known, camera):
            return frame_by_frame(self.unet, x_t, t, tokens, added_cond_kwargs)


def spatial_pairs(unet: UNet2DConditionModel) -> Iterator[tuple[Any, nn.Module | None]]:
    """(resnet, the transformer that follows it or None), in running order: one temporal block stands at each."""
    for block in (*unet.down_blocks, *([unet.mid_block] if unet.mid_block is not None else []), *unet.up_blocks):
        transformers = list(getattr(block, "attentions", ()))
        for i, resnet in enumerate(block.resnets):
            yield resnet, transformers[i] if i < len(transformers) else None


def temporal_channels(unet: UNet2DConditionModel) -> list[int]:
    """Width after each resnet of `unet`, in running order."""
    return [resnet.out_channels for resnet, _ in spatial_pairs(unet)]


def lowest_places(unet: UNet2DConditionModel, levels: int) -> list[bool]:
    """Whether each place of a temporal block is on one of the `levels` levels of `unet` with the smallest features."""
    depth = len(unet.down_blocks)
    at = [level for level, block in enumerate(unet.down_blocks) for _ in block.resnets]
    at += [depth - 1] * (len(unet.mid_block.resnets) if unet.mid_block is not None else 0)
    at += [depth - 1 - level for level, block in enumerate(unet.up_blocks) for _ in block.resnets]
    return [level >= depth - levels for level in at]


def text_dim(unet: UNet2DConditionModel) -> int:
    """Width of the prompt's tokens."""
    widths = unet.config["cross_attention_dim"]
    return widths if isinstance(widths, int) else widths[0]


def check_fit(unet: UNet2DConditionModel, temporal: TemporalLayers) -> None:
    """Raises InputError for a UNet that temporal layers do not know, ModelError where the two do not fit each other."""
    check_supported(unet)
    wanted = {
        "channels": temporal_channels(unet),
        "time_dim": unet.time_embedding.linear_2.out_features,
        "text_dim": text_dim(unet),
    }
    got = {key: temporal.config[key] for key in wanted}
    got["channels"] = list(got["channels"])
    if wanted != got:
        raise ModelError("temporal layers do not fit the image network", expected=wanted, got=got)


def check_supported(unet: UNet2DConditionModel) -> None:
    """Raises InputError where temporal layers cannot stand in `unet`: a block without resnets, tokens of several
    widths; or where it wants to be told more than a `Conditioning` says: classes, pictures.
    """
    config = unet.config
    for block in (*unet.down_blocks, *unet.up_blocks):
        if not hasattr(block, "resnets"):
            raise InputError("image network for video", expected="blocks with resnets", got=type(block).__name__)
    widths = config["cross_attention_dim"]
    if not isinstance(widths, int) and len(set(widths)) > 1:
        raise InputError("image network for video", expected="one cross_attention_dim", got=widths)
    added = config.get("addition_embed_type")
    if added not in ADDED:
        known = ", ".join(str(name) for name in ADDED)
        raise InputError("image network for video", expected=f"addition_embed_type {known}", got=added)
    for key in ("class_embed_type", "encoder_hid_dim_type", "num_class_embeds"):
        if config.get(key) is not None:
            raise InputError("image network for video", expected=f"no {key}", got=config[key])
