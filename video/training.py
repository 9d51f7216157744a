"""Trains temporal layers on clips while the image network they stand in stays frozen.

x0 clean latents of a clip, `b c t h w`; eps noise, in part common to its frames (`video.noise`); t one timestep a clip,
shared by its frames; x_t, v as in `shared.diffusion.schedule`. The objective is the image model's own, over all frames
of a clip and over temporal weights phi only (Blattmann et al. 2023, equation 2):

    phi* = argmin E || y - f_theta,phi(x_t; t, prompt) ||^2,      y = v, eps or x0, whichever the network predicts.

With `fineness` above 1 clips are read so many times as finely as the network sees them: in a share of the steps it sees
a part of them, at finer spacing, and is told which moments of the clip these are. That is what windows of a long clip
ask of it (`video.windows`).

Everything random in a step is drawn from (seed, step), so that a resumed training goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError
from shared.latents.codec import Codec
from shared.models.image_model import ImageModel, load_image_model
from shared.models.source import resolve_model
from shared.models.text import TextConditioner
from shared.rng import generator
from shared.training.data.arrays import find_folders, load_latents, load_media
from shared.training.loop import Training, TrainState, half_copy, seeded
from shared.training.objective import denoising_loss, stratified_timesteps
from shared.training.optimizers import Group, build_optimizer
from video.folder import COMPONENT, add_temporal, copy_model, load_temporal
from video.network import TemporalLayers, VideoUNet, lowest_places
from video.noise import mixed_noise
from video.recipe import VideoTrainRecipe
from video.windows import even_moments


class Batch(NamedTuple):
    """tokens: of some samples those of the empty prompt, for classifier-free guidance. moments: when in their clips the
    frames are, from 0 to 1, the same for all samples; None: these are whole clips.
    """

    latents: Float[Tensor, "b c t h w"]
    tokens: Float[Tensor, "b n d"]
    moments: Float[Tensor, " t"] | None = None


BETAS = (0.9, 0.99)
# Gradients of a layer carry its gate as a factor (see AlphaMix) and start tiny; Adam's usual 1e-8 would brake them.
ADAM_EPS = 1e-12
NEW_NOISE_SHARE = 0.5


def train_video(
    network: VideoUNet,
    batch_at: Callable[[int], Batch],
    schedule: NoiseSchedule,
    recipe: VideoTrainRecipe,
    *,
    prediction_type: str = "v_prediction",
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Trains `network.temporal`, one yield a step; when exhausted, it holds the averaged weights. Freezes the UNet.

    batch_at: step -> what to train on in it, latents scaled.
    checkpoint: file to save to every `recipe.checkpoint_minutes` and, with `resume`, to go on from.
    Raises InputError when there is nothing to resume from.
    """
    network.unet.requires_grad_(False)
    temporal = network.temporal.requires_grad_(True).train()
    optimizer = build_optimizer(recipe, groups_of(temporal, recipe), betas=BETAS, eps=ADAM_EPS)
    training = Training(recipe, {"temporal": temporal}, checkpoint, resume=resume, optimizer=optimizer)
    running = _for_compute(network, recipe)
    for step in training.steps():
        x0, tokens, moments = batch_at(step)
        draw = generator(recipe.seed, step, 0)
        t = stratified_timesteps(len(x0), schedule.num_timesteps, draw, bias=recipe.noise_bias).to(x0.device)
        eps = mixed_noise(x0.shape, draw, share=temporal.noise_share).to(x0)

        def predict(x_t: Tensor, t: Tensor, tokens: Tensor = tokens, moments: Tensor | None = moments) -> Tensor:
            return running(x_t, t, tokens, moments)

        loss = denoising_loss(
            predict, schedule, x0, eps, t,
            prediction_type=prediction_type, gamma=recipe.min_snr_gamma, precision=recipe.precision,
        )  # fmt: skip
        alphas = temporal.alphas().values()
        yield training.update(loss, alpha=sum(alphas) / len(alphas))
    temporal.eval()


def groups_of(temporal: TemporalLayers, recipe: VideoTrainRecipe) -> list[Group]:
    """Three groups: matrices with weight decay, vectors without, and the gates with a larger rate of their own."""
    matrices = [p for p in temporal.parameters() if p.ndim >= 2]
    vectors = [p for p in temporal.parameters() if p.ndim == 1]
    gates = [p for p in temporal.parameters() if p.ndim == 0]
    rate = recipe.learning_rate
    return [
        {"params": matrices, "lr": rate, "weight_decay": recipe.weight_decay, "matrices": True},
        {"params": vectors, "lr": rate, "weight_decay": 0.0},
        {"params": gates, "lr": recipe.alpha_learning_rate, "weight_decay": 0.0},
    ]


def _for_compute(network: VideoUNet, recipe: VideoTrainRecipe) -> VideoUNet:
    """The network to run: with bf16, frozen weights are rounded once, in a copy, and not again in every step."""
    unet = network.unet
    if recipe.precision == "bf16":
        # Module.to, not ModelMixin.to: the latter warns about a list of exceptions that is empty here.
        unet = torch.nn.Module.to(copy.deepcopy(unet), torch.bfloat16)
    return VideoUNet(unet, network.temporal, checkpointing=recipe.checkpointing)


class ClipBatches:
    """step -> batch of random clips with their captions' tokens. Every distinct caption is encoded once.

    latents: scaled, of one folder of clips after the other, any float dtype, with t = `recipe.clip_frames`.
    captions: of all their clips. device: where latents and tokens are wanted.
    """

    def __init__(
        self,
        latents: Sequence[Float[Tensor, "_ t c h w"]],
        captions: list[str],
        text: TextConditioner,
        recipe: VideoTrainRecipe,
        device: str = "cpu",
    ) -> None:
        self.latents = latents
        self.device = device
        self.places = [(folder, clip) for folder, part in enumerate(latents) for clip in range(len(part))]
        self.recipe = recipe
        distinct = sorted({"", *captions})
        self.tokens = encode_captions(text, distinct)
        index = {caption: i for i, caption in enumerate(distinct)}
        self.empty = index[""]
        self.caption = torch.tensor([index[caption] for caption in captions])

    def __call__(self, step: int) -> Batch:
        draw = generator(self.recipe.seed, step, 1)
        chosen = torch.randint(len(self.places), (self.recipe.batch_size,), generator=draw)
        dropped = torch.rand(len(chosen), generator=draw) < self.recipe.caption_dropout
        caption = self.caption[chosen].masked_fill(dropped, self.empty)
        frames = drawn_frames(self.recipe, draw)
        places = [self.places[i] for i in chosen.tolist()]
        latents = torch.stack([self.latents[folder][clip, frames] for folder, clip in places])
        latents = latents.to(self.device).float().transpose(1, 2)
        return Batch(
            latents, self.tokens[caption.to(self.device)].float(), even_moments(self.recipe.clip_frames)[frames]
        )


def drawn_frames(recipe: VideoTrainRecipe, draw: torch.Generator) -> Int[Tensor, " t"]:
    """Which frames of a clip of `recipe.clip_frames` a step sees: evenly spread over all of it, or, in `part_share` of
    the steps, closer together (any whole spacing below `fineness`), from anywhere on.
    """
    u, v, w = torch.rand(3, generator=draw, dtype=torch.float64).tolist()
    spacing = recipe.fineness
    if u < recipe.part_share and spacing > 1:
        spacing = 1 + int(v * (spacing - 1))
    room = recipe.clip_frames - 1 - spacing * (recipe.frames - 1)
    return int(w * (room + 1)) + spacing * torch.arange(recipe.frames)


@torch.no_grad()
def encode_captions(text: TextConditioner, captions: list[str], batch: int = 64) -> Float[Tensor, "m n d"]:
    """Tokens of every caption, in half precision: there may be thousands."""
    return torch.cat([text.encode(captions[i : i + batch]).half() for i in range(0, len(captions), batch)])


def read_clips(
    data: Path, codec: Codec, *, size: int, frames: int, repeat: bool = True
) -> tuple[list[Float[Tensor, "n t c h w"]], list[str]]:
    """Latents, folder by folder, and captions of all clips below `data`; folders of stills are passed over.

    Clips are decoded, resampled to `frames`, cropped to `size` and encoded once; the results are cached beside them.
    Raises InputError when there is no clip, and without `repeat` for one that has fewer frames.
    """
    latents, captions = [], []
    for group in find_folders(data):
        if group.kind == "picture":
            continue
        media = load_media(group, size=size, frames=frames, repeat=repeat)
        latents.append(load_latents(media, codec))
        captions += media.captions
    if not latents:
        raise InputError("training data", expected=f"clips below {data}", got="pictures only")
    return latents, captions


def first_layers(recipe: VideoTrainRecipe, model: ImageModel, folder: Path) -> TemporalLayers:
    """New temporal layers for the image model, or those to go on from: in `folder`, or else `recipe.model`'s."""
    if recipe.start == "continue":
        temporal = load_temporal(folder if (folder / COMPONENT).is_dir() else resolve_model(recipe.model))
        if recipe.noise_share is not None:
            temporal.register_to_config(noise_share=recipe.noise_share)
        if recipe.space_time_levels is not None:
            with seeded(recipe.seed):
                temporal = widened(temporal, lowest_places(model.unet, recipe.space_time_levels))
        return temporal
    share = NEW_NOISE_SHARE if recipe.noise_share is None else recipe.noise_share
    with seeded(recipe.seed):
        return TemporalLayers.for_unet(
            model.unet,
            embed_dim=recipe.embed_dim,
            head_dim=recipe.head_dim,
            noise_share=share,
            frames=recipe.frames,
            space_time_levels=recipe.space_time_levels or 0,
        )


def widened(temporal: TemporalLayers, space_time: list[bool]) -> TemporalLayers:
    """The layers, with new attention over space and time where `space_time` wants it and they have none."""
    had = temporal.config["space_time"] or [False] * len(space_time)
    both = [old or new for old, new in zip(had, space_time, strict=True)]
    wider = TemporalLayers.from_config({**temporal.config, "space_time": both})
    wider.load_state_dict({**wider.state_dict(), **temporal.state_dict()})
    return wider


def train(
    recipe: VideoTrainRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """The whole stage: clips below `data` -> the component `temporal` of the model folder `out`.

    The image model is the one in `out`; where there is none, `recipe.model` is copied there first.
    """
    copy_model(recipe.model, out, temporal=recipe.start == "continue")
    model = load_image_model(out, device=device)
    latents, captions = read_clips(
        data, model.codec, size=model.default_size, frames=recipe.clip_frames, repeat=recipe.fineness == 1
    )
    temporal = first_layers(recipe, model, out).to(device)
    yield from train_video(
        VideoUNet(model.unet, temporal),
        ClipBatches(latents, captions, model.text, recipe, device),
        model.schedule,
        recipe,
        prediction_type=model.denoiser.prediction_type,
        checkpoint=out / "video.pt",
        resume=resume,
    )
    add_temporal(out, half_copy(temporal))
