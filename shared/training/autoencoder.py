"""Stage 1: the autoencoder whose latents the diffusion model lives in (Rombach et al. 2022, section 3.1).

Loss: L1 + L2 of the picture, and of its half-size copy decoded from half-size latents, plus `latent_loss`. The copy
makes latents change under scaling as pictures do: what is large in the picture is large in the latents and outlives
high noise (Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders"; Kouzelis et al. 2025, "EQ-VAE").
Noise on the latents makes the decoder forgiving, which stands in for the KL term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from shared.compute.modes import checkpointed
from shared.errors import ModelError
from shared.latents.codec import Codec
from shared.models.image_model import load_image_model
from shared.models.save import save_network
from shared.models.weight_files import read_json
from shared.models.weights import load_network
from shared.rng import generator
from shared.training import ranks
from shared.training.data.arrays import draw_pictures, load_all
from shared.training.half import autocast
from shared.training.loop import Training, TrainState, seeded
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


def reconstruction_loss(decoded: Float[Tensor, "b 3 h w"], pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    return F.l1_loss(decoded, pixels) + F.mse_loss(decoded, pixels)


def latent_loss(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Keeps every channel near mean 0 and deviation 1, and single values within 3 deviations (few pictures' latents
    are Gaussian by themselves: where most of a picture is background, they are sparse and have long tails)."""
    per_channel = latents.transpose(0, 1).flatten(1)
    moments = per_channel.mean(1).square().mean() + (per_channel.std(1) - 1).square().mean()
    return 0.01 * moments + 0.1 * (latents.abs() - 3).clamp(min=0).square().mean()


def train_autoencoder(
    model: AutoencoderTiny,
    batch_at: Callable[[int], Float[Tensor, "b 3 h w"]],
    recipe: AutoencoderTrainRecipe,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Trains the autoencoder on pictures in [-1, 1], one yield a step; when exhausted, it holds its averaged weights.

    checkpoint: file to save to every `recipe.checkpoint_minutes` and, with `resume`, to go on from.
    Raises InputError when there is nothing to resume from.
    """
    model.train()
    training = Training(recipe, {"model": model}, checkpoint, resume=resume)

    def loss_at(number: int) -> tuple[Tensor, dict[str, float]]:
        pixels = batch_at(number).to(memory_format=torch.channels_last)
        with checkpointed(model, recipe.checkpointing), autocast(recipe.precision, pixels.device):
            latents = model.encode(pixels).latents.float()
            noise = torch.randn(latents.shape, generator=generator(recipe.seed, number, 0)).to(latents)
            noisy = latents + recipe.latent_noise * noise
            decoded = model.decode(noisy).sample.float()
            small = model.decode(F.avg_pool2d(noisy, 2)).sample.float()
        loss = reconstruction_loss(decoded, pixels) + latent_loss(latents)
        loss = loss + recipe.scale_weight * reconstruction_loss(small, F.avg_pool2d(pixels, 2))
        return loss, {"psnr": float(10 * torch.log10(4 / F.mse_loss(decoded.detach(), pixels)))}

    yield from training.run(loss_at)
    model.eval()


def train(
    recipe: AutoencoderTrainRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """Trains on all pictures below `data`; at the end `out/vae` holds the averaged weights in half precision.

    With `recipe.start` "continue" the network starts from that in `out`, or from `recipe.model`'s where `out` has none.
    """
    folders = load_all(data, size=recipe.size)

    def batch_at(step: int) -> Tensor:
        return pictures(generator(recipe.seed, step, 1))

    def pictures(draw: torch.Generator) -> Tensor:
        return draw_pictures(folders, recipe.batch_size, recipe.clip_fraction, draw)[0].to(device)

    model = first_network(recipe, out).to(device)
    for state in train_autoencoder(model, batch_at, recipe, checkpoint=out / "autoencoder.pt", resume=resume):
        yield replace(state, model=lambda: Codec(model))
    model.register_to_config(scaling_factor=round(1 / _deviation(model, pictures, recipe), 4))
    if ranks.rank() == 0:
        save_network(out / "vae", model)


def first_network(recipe: AutoencoderTrainRecipe, folder: Path | None = None) -> AutoencoderTiny:
    """A new network, or with `recipe.start` "continue" that in `folder`, or else `recipe.model`'s.

    Raises ModelError where that is no AutoencoderTiny.
    """
    if recipe.start == "continue":
        if folder is not None and (folder / "vae" / "config.json").is_file():
            config = read_json(folder / "vae" / "config.json")
            model = load_network(
                lambda: AutoencoderTiny.from_config(config), folder / "vae", device="cpu", dtype=torch.float32
            )
        else:
            model = load_image_model(recipe.model).codec.vae
        if not isinstance(model, AutoencoderTiny):
            raise ModelError("autoencoder to train on", expected="an AutoencoderTiny", got=type(model).__name__)
        return model.requires_grad_(True).to(memory_format=torch.channels_last)
    with seeded(recipe.seed):
        return build(recipe).to(memory_format=torch.channels_last)


@torch.no_grad()
def _deviation(
    model: AutoencoderTiny, pictures: Callable[[torch.Generator], Tensor], recipe: AutoencoderTrainRecipe
) -> float:
    """The standard deviation of latents; its inverse is the scaling factor (Rombach et al. 2022, appendix G)."""
    batches = (pictures(generator(recipe.seed, i)) for i in range(-(-256 // recipe.batch_size)))
    return float(torch.cat([model.encode(pixels).latents for pixels in batches]).std())
