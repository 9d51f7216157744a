"""Stage 1: the autoencoder whose latents the diffusion model lives in (Rombach et al. 2022, section 3.1).

Loss: L1 + L2 of the pixels, plus a penalty that keeps every latent channel near mean 0 and deviation 1. A little noise
on the latents makes the decoder forgiving, which stands in for the KL term.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch.nn import functional as F

from shared.training.data import MediaFolder, draw_pictures, find_folders, load_media
from shared.training.loop import Checkpoint, Ema, TrainState, half_copy, learning_rate
from shared.training.recipe import AutoencoderTrainRecipe


def build(recipe: AutoencoderTrainRecipe) -> AutoencoderTiny:
    widths = (recipe.channels,) * 3
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=recipe.encoder_blocks,
        num_decoder_blocks=recipe.decoder_blocks,
        latent_channels=recipe.latent_channels,
        scaling_factor=1.0,
    )


def train(recipe: AutoencoderTrainRecipe, data: Path, out: Path, resume: bool = False) -> Iterator[TrainState]:
    """Trains on all pictures below `data`; at the end `out/vae` holds the averaged weights in half precision."""
    torch.manual_seed(recipe.seed)
    folders = [load_media(folder, size=recipe.size) for folder in find_folders(data)]
    model = build(recipe).to(memory_format=torch.channels_last)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    ema = Ema(model.parameters(), recipe.ema_decay)
    checkpoint = Checkpoint(
        out / "autoencoder.pt",
        {"model": model, "ema": ema, "optimizer": optimizer},
        every_seconds=60 * recipe.checkpoint_minutes,
    )
    if resume:
        checkpoint.restore()
    for step in range(checkpoint.step, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        pixels, _ = draw_pictures(folders, recipe.batch_size, recipe.clip_fraction, generator)
        pixels = pixels.to(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe.steps, recipe.learning_rate, warmup=recipe.warmup_steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            latents = model.encode(pixels).latents.float()
            noise = torch.randn(latents.shape, generator=generator)
            decoded = model.decode(latents + recipe.latent_noise * noise).sample.float()
        per_channel = latents.transpose(0, 1).flatten(1)
        shape_loss = per_channel.mean(1).square().mean() + (per_channel.std(1) - 1).square().mean()
        mse = F.mse_loss(decoded, pixels)
        loss = F.l1_loss(decoded, pixels) + mse + 0.01 * shape_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(step)
        checkpoint.save_if_due(step + 1, last=step + 1 == recipe.steps)
        psnr = float(10 * torch.log10(4 / mse.detach()))
        yield TrainState(
            step + 1,
            recipe.steps,
            float(loss.detach()),
            optimizer.param_groups[0]["lr"],
            checkpoint.elapsed(),
            {"psnr": psnr},
        )
    ema.copy_to()
    model.eval()
    model.register_to_config(scaling_factor=round(1 / _latent_reach(model, folders, recipe), 4))
    half_copy(model).save_pretrained(out / "vae")


@torch.no_grad()
def _latent_reach(model: AutoencoderTiny, folders: list[MediaFolder], recipe: AutoencoderTrainRecipe) -> float:
    """Half of the size that one latent in a thousand exceeds.

    Scaled by its inverse, 99.9% of latents lie in [-2, 2], which for heavy-tailed latents is a deviation well below one
    (0.3 in the embedded world). Whether that or unit deviation trains better has not been measured.
    """
    pixels, _ = draw_pictures(folders, 256, recipe.clip_fraction, torch.Generator().manual_seed(1))
    return float(model.encode(pixels).latents.flatten().abs().quantile(0.999)) / 2
