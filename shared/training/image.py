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
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from shared.attention import install_attention
from shared.codec import Codec
from shared.errors import ModelError
from shared.save_model import save_image_model
from shared.schedule import NoiseSchedule
from shared.training.data import MediaFolder, draw_frames, find_folders, load_latents, load_media
from shared.training.loop import Checkpoint, Ema, TrainState, learning_rate
from shared.training.recipe import ImageTrainRecipe
from shared.world.prompt import vocabulary
from shared.world.tokenizer import build_tokenizer

WORD_SHARPNESS = 20.0
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
    return CLIPTextModel(config)


def loss_weight(schedule: NoiseSchedule, t: Tensor, gamma: float) -> Tensor:
    """min(SNR, gamma) + 1 over SNR + 1: one where noise rules, falling where the picture is almost clean.

    Min-SNR weighting (Hang et al. 2023, section 3.4) shifted by one, so that pure noise (SNR = 0) keeps its weight.
    """
    alpha_bar = schedule.alpha_bar(t)
    snr = alpha_bar / (1 - alpha_bar)
    return (snr.clamp(max=gamma) + 1) / (snr + 1)


def word_loss(tokens: Tensor, ids: Tensor, words: Tensor, tokenizer: CLIPTokenizer) -> Tensor:
    """Cross-entropy of guessing a caption's words, `ids` "b n", from the mean of its tokens "b n d".

    A diffusion loss alone teaches a new text transformer the words for colours long before those for shapes, because
    colours explain more of the squared error. This keeps all words apart from the start. The guess compares directions
    with the word embeddings `words` "vocabulary d", so it needs no weights of its own.
    """
    guess = F.log_softmax(WORD_SHARPNESS * F.normalize(tokens.mean(1), dim=-1) @ F.normalize(words, dim=-1).T, dim=-1)
    spoken = (ids != tokenizer.bos_token_id) & (ids != tokenizer.eos_token_id)
    return -(guess.gather(1, ids) * spoken).sum() / spoken.sum().clamp(min=1)


def draw_timesteps(schedule: NoiseSchedule, count: int, bias: float, generator: torch.Generator) -> Tensor:
    """t = T (1 - u^bias), u uniform in (0, 1): uniform for bias 1, more often noisy above it.

    What is where, and so what the prompt is about, is decided at high noise; the rest is texture.
    """
    u = torch.rand(count, generator=generator)
    return ((1 - u**bias) * schedule.num_timesteps).long().clamp(max=schedule.num_timesteps - 1)


def draw_latents(
    folders: list[LatentFolder], count: int, clip_fraction: float, generator: torch.Generator
) -> tuple[Tensor, list[str]]:
    """`count` latents "b c h w" with their captions: stills, and single frames of clips in the given share."""
    drawn = draw_frames([media for media, _ in folders], count, clip_fraction, generator)
    latents = torch.stack([folders[folder][1][sample, frame] for folder, sample, frame in drawn])
    return latents.float(), [folders[folder][0].captions[sample] for folder, sample, _ in drawn]


def train(recipe: ImageTrainRecipe, data: Path, out: Path, resume: bool = False) -> Iterator[TrainState]:
    """Trains on the latents of all pictures below `data`; needs `out/vae`, completes `out` to a pipeline folder.

    With `recipe.start` "continue" the networks start from those in `out`, with a fresh optimiser.
    """
    torch.manual_seed(recipe.seed)
    if not (out / "vae").is_dir():
        raise ModelError("image training", expected=f"an autoencoder in {out}/vae", got="none", hint="Train it first.")
    codec = Codec(AutoencoderTiny.from_pretrained(out / "vae").eval())
    media = [load_media(folder, size=recipe.size) for folder in find_folders(data)]
    folders = [(folder, load_latents(folder, codec)) for folder in media]
    tokenizer = build_tokenizer(vocabulary(), recipe.text_tokens)
    text = build_text(recipe, tokenizer)
    unet = build_unet(recipe, codec.latent_channels, folders[0][1].shape[-1])
    if recipe.start == "continue":
        text = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32)
        unet = UNet2DConditionModel.from_pretrained(out / "unet", torch_dtype=torch.float32)
    install_attention(unet)  # on a CPU, torch's fused bf16 kernel is several times slower than plain matrix products
    text.set_attn_implementation("eager")
    scheduler = build_scheduler()
    schedule = NoiseSchedule.from_scheduler(scheduler)
    parameters = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    ema = Ema(parameters, recipe.ema_decay)
    checkpoint = Checkpoint(
        out / "image.pt",
        {"unet": unet, "text": text, "ema": ema, "optimizer": optimizer},
        every_seconds=60 * recipe.checkpoint_minutes,
    )
    if resume:
        checkpoint.restore()
    unet.train()
    text.train()
    for step in range(checkpoint.step, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        x0, captions = draw_latents(folders, recipe.batch_size, recipe.clip_fraction, generator)
        dropped = torch.rand(len(captions), generator=generator) < recipe.caption_dropout
        captions = ["" if drop else caption for drop, caption in zip(dropped.tolist(), captions, strict=True)]
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        t = draw_timesteps(schedule, len(x0), recipe.noise_bias, generator)
        eps = torch.randn(x0.shape, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe.steps, recipe.learning_rate, warmup=recipe.warmup_steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            tokens = text(ids).last_hidden_state
            predicted = unet(schedule.add_noise(x0, eps, t), t, encoder_hidden_states=tokens).sample
        error = (predicted.float() - schedule.velocity(x0, eps, t)).square().mean(dim=(1, 2, 3))
        loss = (loss_weight(schedule, t, recipe.min_snr_gamma) * error).mean()
        loss = loss + recipe.word_weight * word_loss(tokens.float(), ids, text.get_input_embeddings().weight, tokenizer)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update(step)
        checkpoint.save_if_due(step + 1, last=step + 1 == recipe.steps)
        yield TrainState(
            step + 1, recipe.steps, float(loss.detach()), optimizer.param_groups[0]["lr"], checkpoint.elapsed()
        )
    ema.copy_to()
    save_image_model(
        out, unet=unet.eval(), vae=codec.vae, text_encoder=text.eval(), tokenizer=tokenizer, scheduler=scheduler
    )
