"""Stage 2: the image diffusion model in latent space (Rombach et al. 2022, equation 3), text transformer trained along.

x0: latents; v = alpha eps - sigma x0 is what the network predicts (Salimans and Ho 2022), on a schedule whose last
step is pure noise (Lin et al. 2023). The loss is the plain v loss, capped towards clean timesteps (`denoising_loss`).
The result is a stock diffusers `StableDiffusionPipeline` folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModel

from shared.attention import install_attention
from shared.compute.modes import checkpointed
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import ModelError
from shared.latents.codec import Codec
from shared.models.configs import changed
from shared.models.image_model import ImageModel, load_image_model
from shared.models.prompts.text import TextConditioner
from shared.models.save import save_image_model
from shared.models.source import INDEX
from shared.rng import generator
from shared.training import ranks
from shared.training.data.arrays import MediaFolder, draw_frames, load_all, load_latents
from shared.training.loop import Training, TrainState, seeded
from shared.training.objective import denoising_loss, stratified_timesteps
from shared.training.optimizers import Group, build_optimizer
from shared.training.recipe import ImageTrainRecipe
from shared.training.text_encoder import check_one_encoder, new_text, with_words

LatentFolder = tuple[MediaFolder, Tensor]


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,  # no effect on "trailing"; the stock pipeline would warn about 0
    )


def build_unet(recipe: ImageTrainRecipe, latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """Attention at all levels but the first, where there are most positions and least meaning.

    The prompt reaches every level all the same: its tokens, pooled, are added to the embedding of the noise level
    ("text" in diffusers).
    """
    depth = len(recipe.unet_channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=recipe.unet_channels,
        layers_per_block=recipe.layers_per_block,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (depth - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (depth - 1) + ("UpBlock2D",),
        cross_attention_dim=recipe.text_width,
        # In this class "attention_head_dim" is the number of heads.
        attention_head_dim=tuple(max(1, c // recipe.head_dim) for c in recipe.unet_channels),
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def fitted(unet: UNet2DConditionModel, latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """`unet` for an autoencoder's latents: where it had others, its first and last convolutions are new."""
    sizes = {"in_channels": latent_channels, "out_channels": latent_channels, "sample_size": latent_size}
    new = UNet2DConditionModel.from_config(changed(unet.config, **sizes))
    kept = unet.state_dict()
    if unet.config["in_channels"] != latent_channels:
        kept |= {k: tensor for k, tensor in new.state_dict().items() if k.startswith(("conv_in.", "conv_out."))}
    new.load_state_dict(kept)
    return new


class ImageBatch(NamedTuple):
    """Scaled latents and their captions' token ids; of some captions nothing, for classifier-free guidance."""

    latents: Float[Tensor, "b c h w"]
    ids: Int[Tensor, "b n"]


class ImageBatches:
    """step -> stills, and single frames of clips in the recipe's share. folders: media with their latents.

    device: where the latents are wanted.
    """

    def __init__(
        self, folders: list[LatentFolder], text: TextConditioner, recipe: ImageTrainRecipe, device: str = "cpu"
    ) -> None:
        self.folders = folders
        self.text = text
        self.recipe = recipe
        self.device = device

    def __call__(self, step: int) -> ImageBatch:
        draw = generator(self.recipe.seed, step, 1)
        count = self.recipe.batch_size
        drawn = draw_frames([media for media, _ in self.folders], count, self.recipe.clip_fraction, draw)
        latents = torch.stack([self.folders[folder][1][sample, frame] for folder, sample, frame in drawn])
        dropped = (torch.rand(count, generator=draw) < self.recipe.caption_dropout).tolist()
        captions = [
            "" if drop else self.folders[folder][0].captions[sample]
            for drop, (folder, sample, _) in zip(dropped, drawn, strict=True)
        ]
        return ImageBatch(latents.to(self.device).float(), self.text.token_ids(captions).to(self.device))


def train_image(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    batch_at: Callable[[int], ImageBatch],
    schedule: NoiseSchedule,
    recipe: ImageTrainRecipe,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Trains both networks, one yield a step; when exhausted, they hold their averaged weights.

    checkpoint: file to save to every `recipe.checkpoint_minutes` and, with `resume`, to go on from.
    Raises InputError when there is nothing to resume from.
    """
    for network in (unet, text):  # on a CPU, torch's fused bf16 kernel is several times slower than plain products
        install_attention(network)
    decay = recipe.weight_decay
    groups: list[Group] = [
        {"params": list(unet.parameters()), "lr": recipe.learning_rate, "weight_decay": decay, "matrices": True},
        {"params": list(text.parameters()), "lr": recipe.text_learning_rate, "weight_decay": decay},
    ]
    optimizer = build_optimizer(recipe, groups)
    training = Training(recipe, {"unet": unet, "text": text}, checkpoint, resume=resume, optimizer=optimizer)
    unet.train()
    text.train()

    def loss_at(number: int) -> tuple[Tensor, dict[str, float]]:
        x0, ids = batch_at(number)
        draw = generator(recipe.seed, number, 0)
        t = stratified_timesteps(len(x0), schedule.num_timesteps, draw, bias=recipe.noise_bias).to(x0.device)
        eps = torch.randn(x0.shape, generator=draw).to(x0)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return unet(x_t, t, encoder_hidden_states=text(ids).last_hidden_state).sample

        with checkpointed(unet, recipe.checkpointing):
            loss = denoising_loss(
                predict, schedule, x0, eps, t,
                prediction_type="v_prediction", gamma=recipe.min_snr_gamma, precision=recipe.precision,
            )  # fmt: skip
        return loss, {}

    yield from training.run(loss_at)
    unet.eval()
    text.eval()


def first_networks(
    recipe: ImageTrainRecipe, folder: str | Path, captions: Sequence[str], latent_channels: int, latent_size: int
) -> tuple[UNet2DConditionModel, TextConditioner]:
    """New networks, or with `recipe.start` "continue" those of the model in `folder`, for an autoencoder's latents.

    Either way the text side knows every word of `captions`.
    """
    if recipe.start == "continue":
        model = load_image_model(folder)
        check_one_encoder(model)
        model.text.text_encoder.requires_grad_(True)
        with seeded(recipe.seed):
            return fitted(model.unet, latent_channels, latent_size), with_words(model.text, recipe, captions)
    with seeded(recipe.seed):
        text = new_text(recipe, captions)
        return build_unet(recipe, latent_channels, latent_size), text


def train(
    recipe: ImageTrainRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """Trains on the latents of all pictures below `data`; needs `out/vae`, completes `out` to a pipeline folder.

    With `recipe.start` "continue" the networks start from those in `out`, or from `recipe.model`'s where `out` is no
    model yet, with a fresh optimiser.
    """
    if not (out / "vae").is_dir():
        raise ModelError("image training", expected=f"an autoencoder in {out}/vae", got="none", hint="Train it first.")
    codec = Codec(AutoencoderTiny.from_pretrained(out / "vae").eval().to(device))
    media = load_all(data, size=recipe.size)
    folders = [(folder, load_latents(folder, codec)) for folder in media]
    captions = [caption for folder in media for caption in folder.captions]
    model = out if (out / INDEX).is_file() else recipe.model
    unet, text = first_networks(recipe, model, captions, codec.latent_channels, folders[0][1].shape[-1])
    scheduler = build_scheduler()
    schedule = NoiseSchedule.from_scheduler(scheduler)
    live = ImageModel(str(out), out, unet, codec, text, type(scheduler), dict(scheduler.config), schedule)
    for state in train_image(
        unet.to(device),
        text.text_encoder.to(device),
        ImageBatches(folders, text, recipe, device),
        schedule,
        recipe,
        checkpoint=out / "image.pt",
        resume=resume,
    ):
        yield replace(state, model=lambda: live)
    if ranks.rank() == 0:
        save_image_model(
            out,
            unet=unet,
            vae=codec.vae,
            text_encoder=text.text_encoder,
            tokenizer=text.tokenizer,
            scheduler=scheduler,
        )
