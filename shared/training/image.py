"""Stage 2: the image diffusion model in latent space (Rombach et al. 2022, equation 3), text transformer trained along.

x0: latents; v = alpha eps - sigma x0 is what the network predicts (Salimans and Ho 2022), on a schedule whose last
step is pure noise (Lin et al. 2023). The loss is the plain v loss, capped towards clean timesteps (`loss_weight`).
The result is a stock diffusers `StableDiffusionPipeline` folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from shared.attention import install_attention
from shared.codec import Codec
from shared.errors import ModelError
from shared.model import INDEX, load_image_model
from shared.rng import generator
from shared.save_model import save_image_model
from shared.schedule import NoiseSchedule
from shared.training.data import MediaFolder, draw_frames, find_folders, load_latents, load_media
from shared.training.loop import Training, TrainState, seeded
from shared.training.objective import loss_weight, stratified_timesteps, target
from shared.training.recipe import ImageTrainRecipe
from shared.world.prompt import vocabulary
from shared.world.tokenizer import build_tokenizer

# Deviation of a new text transformer's token and position embeddings. At transformers' own, 0.02, its layers drown the
# words, and the diffusion loss finds those for colours but not those for shapes (README, "What it measures").
TOKEN_DEVIATION = 1.0
POSITION_DEVIATION = 0.3
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


def build_text(recipe: ImageTrainRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.text_width,
        intermediate_size=4 * recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=max(1, recipe.text_width // 48),
        max_position_embeddings=recipe.text_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = CLIPTextModel(config)
    torch.nn.init.normal_(text.embeddings.token_embedding.weight, std=TOKEN_DEVIATION)
    torch.nn.init.normal_(text.embeddings.position_embedding.weight, std=POSITION_DEVIATION)
    return text


def fitted(unet: UNet2DConditionModel, latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """`unet` for an autoencoder's latents: where it had others, its first and last convolutions are new."""
    sizes = {"in_channels": latent_channels, "out_channels": latent_channels, "sample_size": latent_size}
    new = UNet2DConditionModel.from_config({**unet.config, **sizes})
    kept = unet.state_dict()
    if unet.config["in_channels"] != latent_channels:
        kept |= {k: tensor for k, tensor in new.state_dict().items() if k.startswith(("conv_in.", "conv_out."))}
    new.load_state_dict(kept)
    return new


def draw_latents(
    folders: list[LatentFolder], count: int, clip_fraction: float, generator: torch.Generator
) -> tuple[Tensor, list[str]]:
    """`count` latents "b c h w" with their captions: stills, and single frames of clips in the given share."""
    drawn = draw_frames([media for media, _ in folders], count, clip_fraction, generator)
    latents = torch.stack([folders[folder][1][sample, frame] for folder, sample, frame in drawn])
    return latents.float(), [folders[folder][0].captions[sample] for folder, sample, _ in drawn]


def train(recipe: ImageTrainRecipe, data: Path, out: Path, resume: bool = False) -> Iterator[TrainState]:
    """Trains on the latents of all pictures below `data`; needs `out/vae`, completes `out` to a pipeline folder.

    With `recipe.start` "continue" the networks start from those in `out`, or from `recipe.model`'s where `out` is no
    model yet, with a fresh optimiser.
    """
    if not (out / "vae").is_dir():
        raise ModelError("image training", expected=f"an autoencoder in {out}/vae", got="none", hint="Train it first.")
    codec = Codec(AutoencoderTiny.from_pretrained(out / "vae").eval())
    media = [load_media(folder, size=recipe.size) for folder in find_folders(data)]
    folders = [(folder, load_latents(folder, codec)) for folder in media]
    if recipe.start == "continue":
        model = load_image_model(out if (out / INDEX).is_file() else recipe.model)
        tokenizer, text = model.text.tokenizer, model.text.text_encoder.requires_grad_(True)
        with seeded(recipe.seed):
            unet = fitted(model.unet, codec.latent_channels, folders[0][1].shape[-1])
    else:
        tokenizer = build_tokenizer(vocabulary(), recipe.text_tokens)
        with seeded(recipe.seed):
            text = build_text(recipe, tokenizer)
            unet = build_unet(recipe, codec.latent_channels, folders[0][1].shape[-1])
    for network in (unet, text):  # on a CPU, torch's fused bf16 kernel is several times slower than plain products
        install_attention(network)
    scheduler = build_scheduler()
    schedule = NoiseSchedule.from_scheduler(scheduler)
    rates = {unet: recipe.learning_rate, text: recipe.text_learning_rate}
    optimizer = torch.optim.AdamW(
        [{"params": list(module.parameters()), "lr": rate} for module, rate in rates.items()],
        weight_decay=recipe.weight_decay,
    )
    training = Training(recipe, {"unet": unet, "text": text}, out / "image.pt", resume=resume, optimizer=optimizer)
    if recipe.checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    text.train()
    for step in training.steps():
        draw = generator(recipe.seed, step)
        x0, captions = draw_latents(folders, recipe.batch_size, recipe.clip_fraction, draw)
        dropped = torch.rand(len(captions), generator=draw) < recipe.caption_dropout
        captions = ["" if drop else caption for drop, caption in zip(dropped.tolist(), captions, strict=True)]
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        t = stratified_timesteps(len(x0), schedule.num_timesteps, draw, bias=recipe.noise_bias)
        eps = torch.randn(x0.shape, generator=draw)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            tokens = text(ids).last_hidden_state
            predicted = unet(schedule.add_noise(x0, eps, t), t, encoder_hidden_states=tokens).sample
        error = (predicted.float() - target(schedule, "v_prediction", x0, eps, t)).square().mean(dim=(1, 2, 3))
        loss = (loss_weight(schedule, "v_prediction", t, recipe.min_snr_gamma) * error).mean()
        yield training.update(loss)
    save_image_model(
        out, unet=unet.eval(), vae=codec.vae, text_encoder=text.eval(), tokenizer=tokenizer, scheduler=scheduler
    )
