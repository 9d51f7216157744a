"""Trains temporal layers on clips, while the image network they stand in stays frozen or learns along.

x0 clean latents of a clip, `b c t h w`; eps noise, in part common to its frames (`video.frames.noise`); t one timestep
a clip, shared by its frames; x_t, v as in `shared.diffusion.schedule`. The objective is the image model's own, over all
frames of a clip and over temporal weights phi only (Blattmann et al. 2023, equation 2):

    phi* = argmin E || y - f_theta,phi(x_t; t, prompt) ||^2,      y = v, eps or x0, whichever the network predicts.

With `fineness` above 1 clips are read so many times as finely as the network sees them: in a share of the steps it sees
a part of them, at finer spacing, and is told which moments of the clip these are. That is what windows of a long clip
ask of it (`video.frames.windows`).

With an `image_learning_rate` theta is trained, too, and every step sees stills as well, by the image network alone:
what is right where alpha is 1 stays so (joint training, Ho et al. 2022, "Video Diffusion Models", section 3.1).

Everything random in a step is drawn from (seed, step), so that a resumed training goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from shared.diffusion.schedule import NoiseSchedule
from shared.models.configs import changed
from shared.models.image_model import ImageModel, load_image_model
from shared.models.save import save_network
from shared.models.source import resolve_model
from shared.rng import generator
from shared.training import ranks
from shared.training.half import in_half
from shared.training.loop import Training, TrainState, seeded
from shared.training.objective import denoising_loss, stratified_timesteps
from shared.training.optimizers import Group, build_optimizer
from shared.training.text_encoder import check_one_encoder
from video.folder import COMPONENT, add_temporal, copy_model, load_temporal
from video.frames import known
from video.frames.noise import mixed_noise
from video.generate import VideoModel
from video.network import TemporalLayers, VideoUNet, lowest_places
from video.recipe import VideoTrainRecipe
from video.training.batches import Batch, StillBatch, StillBatches, batches_of, read_folders

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
    stills_at: Callable[[int], StillBatch] | None = None,
    prediction_type: str = "v_prediction",
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Trains `network.temporal`, one yield a step; when exhausted, it holds the averaged weights. Without an
    `image_learning_rate` it freezes the UNet, which is trained along otherwise.

    batch_at: number of a batch -> the batch, latents scaled. stills_at: pictures in the same way, for a UNet that is
    trained.
    checkpoint: file to save to every `recipe.checkpoint_minutes` and, with `resume`, to go on from.
    Raises InputError when there is nothing to resume from.
    """
    together = recipe.image_learning_rate > 0
    unet = network.unet.requires_grad_(together)
    temporal = network.temporal.requires_grad_(True).train()
    optimizer = build_optimizer(recipe, groups_of(network, recipe), betas=BETAS, eps=ADAM_EPS)
    trained = {"temporal": temporal, **({"unet": unet} if together else {})}
    training = Training(recipe, trained, checkpoint, resume=resume, optimizer=optimizer)
    running = _for_compute(network, recipe)
    loss_of = partial(
        denoising_loss, prediction_type=prediction_type, gamma=recipe.min_snr_gamma, precision=recipe.precision
    )

    def loss_at(number: int) -> tuple[Tensor, dict[str, float]]:
        x0, tokens, moments, given, camera, frame_text = batch_at(number)
        shown = None if given is None else known.told(x0, given)
        draw = generator(recipe.seed, number, 0)
        t = stratified_timesteps(len(x0), schedule.num_timesteps, draw, bias=recipe.noise_bias).to(x0.device)
        eps = mixed_noise(x0.shape, draw, share=temporal.noise_share).to(x0)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return running(x_t, t, tokens, moments, shown, camera, frame_text)

        loss = loss_of(predict, schedule, x0, eps, t, difference_weight=recipe.difference_weight)
        metrics: dict[str, float] = {}
        if together and stills_at is not None:
            still = _still_loss(loss_of, unet, stills_at(number), schedule, recipe, number)
            loss, metrics = loss + still, {"stills": float(still.detach())}
        alphas = temporal.alphas().values()
        return loss, {"alpha": sum(alphas) / len(alphas), **metrics}

    yield from training.run(loss_at)
    temporal.eval()


def _still_loss(
    loss_of: Callable[..., Float[Tensor, ""]],
    unet: UNet2DConditionModel,
    batch: StillBatch,
    schedule: NoiseSchedule,
    recipe: VideoTrainRecipe,
    number: int,
) -> Float[Tensor, ""]:
    """The image model's own objective, on pictures."""
    x0, tokens = batch
    draw = generator(recipe.seed, number, 2)
    t = stratified_timesteps(len(x0), schedule.num_timesteps, draw, bias=recipe.noise_bias).to(x0.device)
    eps = torch.randn(x0.shape, generator=draw).to(x0)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return unet(x_t, t, encoder_hidden_states=tokens).sample

    return loss_of(predict, schedule, x0, eps, t)


def groups_of(network: VideoUNet, recipe: VideoTrainRecipe) -> list[Group]:
    """Three groups: matrices with weight decay, vectors without, and the gates with a larger rate of their own; and one
    more of the image network's weights, where they are trained."""
    temporal = network.temporal
    matrices = [p for p in temporal.parameters() if p.ndim >= 2]
    vectors = [p for p in temporal.parameters() if p.ndim == 1]
    gates = [p for p in temporal.parameters() if p.ndim == 0]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    groups: list[Group] = [
        {"params": matrices, "lr": rate, "weight_decay": decay, "matrices": True},
        {"params": vectors, "lr": rate, "weight_decay": 0.0},
        {"params": gates, "lr": recipe.alpha_learning_rate, "weight_decay": 0.0},
    ]
    if recipe.image_learning_rate:
        images = list(network.unet.parameters())
        groups.append({"params": images, "lr": recipe.image_learning_rate, "weight_decay": decay, "matrices": True})
    return groups


def _for_compute(network: VideoUNet, recipe: VideoTrainRecipe) -> VideoUNet:
    """The network to run: in bfloat16, frozen weights are rounded once, in a copy, and not again in every step."""
    unet = network.unet
    if in_half(recipe.precision, network.device) and not recipe.image_learning_rate:
        # Module.to, not ModelMixin.to: the latter warns about a list of exceptions that is empty here.
        unet = torch.nn.Module.to(copy.deepcopy(unet), torch.bfloat16)
    return VideoUNet(unet, network.temporal, checkpointing=recipe.checkpointing)


def first_layers(recipe: VideoTrainRecipe, model: ImageModel, folder: Path, *, cameras: bool = False) -> TemporalLayers:
    """New temporal layers for the image model, or those to go on from: in `folder`, or else `recipe.model`'s.

    cameras: whether they are to learn of them.
    """
    if recipe.start == "continue":
        temporal = load_temporal(folder if (folder / COMPONENT).is_dir() else resolve_model(recipe.model))
        if recipe.noise_share is not None:
            temporal.register_to_config(noise_share=recipe.noise_share)
        levels = lowest_places(model.unet, recipe.space_time_levels or 0)
        with seeded(recipe.seed):
            channels = model.unet.config["in_channels"] if recipe.known_share else 0
            return widened(temporal, levels, channels, cameras=cameras)
    share = NEW_NOISE_SHARE if recipe.noise_share is None else recipe.noise_share
    with seeded(recipe.seed):
        return TemporalLayers.for_unet(
            model.unet,
            embed_dim=recipe.embed_dim,
            head_dim=recipe.head_dim,
            noise_share=share,
            frames=recipe.frames,
            space_time_levels=recipe.space_time_levels or 0,
            known=recipe.known_share > 0,
            cameras=cameras,
        )


def widened(temporal: TemporalLayers, space_time: list[bool], known_channels: int, *, cameras: bool) -> TemporalLayers:
    """The layers, with new attention over space and time where `space_time` wants it, and with an ear for given frames
    and for cameras where they have none."""
    had = temporal.config["space_time"] or [False] * len(space_time)
    both = [old or new for old, new in zip(had, space_time, strict=True)]
    known_channels = temporal.config["known_channels"] or known_channels
    cameras = temporal.config["cameras"] or cameras
    config = changed(temporal.config, space_time=both, known_channels=known_channels, cameras=cameras)
    wider = TemporalLayers.from_config(config)
    wider.load_state_dict({**wider.state_dict(), **temporal.state_dict()})
    return wider


def train(
    recipe: VideoTrainRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """The whole stage: clips below `data` -> the component `temporal` of the model folder `out`, and its `unet` where
    that is trained, too.

    The image model is the one in `out`; where there is none, `recipe.model` is copied there first.
    """
    with ranks.first():
        copy_model(recipe.model, out, temporal=recipe.start == "continue")
    model = load_image_model(out, device=device)
    check_one_encoder(model)
    together = recipe.image_learning_rate > 0
    folders = read_folders(
        data,
        model.codec,
        size=model.default_size,
        frames=recipe.clip_frames,
        repeat=recipe.fineness == 1,
        stills=together,
        views=recipe.views_share > 0,
        starts=recipe.known_share > 0,
    )
    plain = [(media, latents) for media, latents in folders if not media.starts]
    views = any(media.cameras is not None for media, _ in folders)
    network = VideoUNet(model.unet, first_layers(recipe, model, out, cameras=views).to(device))
    for state in train_video(
        network,
        batches_of(folders, model.text, recipe, device),
        model.schedule,
        recipe,
        stills_at=StillBatches(plain, model.text, recipe, device) if together else None,
        prediction_type=model.denoiser.prediction_type,
        checkpoint=out / "video.pt",
        resume=resume,
    ):
        yield replace(state, model=lambda: VideoModel(model, network))
    if ranks.rank() == 0:
        if together:
            save_network(out / "unet", model.unet)
        add_temporal(out, network.temporal, torch.float16)
