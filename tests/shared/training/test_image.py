"""The image stage: its new text transformer, its exact resuming, and a folder that stock diffusers takes."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from shared.diffusion.schedule import NoiseSchedule
from shared.errors import ModelError
from shared.models.prompts.text import TextConditioner
from shared.models.prompts.vocabulary import pieces
from shared.training.autoencoder import train as train_autoencoder
from shared.training.data.arrays import find_folders
from shared.training.image import ImageBatch, build_scheduler, train, train_image
from shared.training.recipe import AutoencoderTrainRecipe, ImageTrainRecipe
from tests.tiny import tiny_text, tiny_unet, tiny_vae

TINY = {
    "size": 32,
    "steps": 4,
    "batch_size": 4,
    "unet_channels": (32, 32),
    "layers_per_block": 1,
    "text_width": 48,
    "text_layers": 1,
    "warmup_steps": 2,
    "checkpoint_minutes": 1e-9,
    "ema_decay": 0.5,
}


@pytest.fixture
def start(data, tmp_path):
    for name in ("whole", "parts"):
        tiny_vae().half().save_pretrained(tmp_path / name / "vae")
    return data, tmp_path


def test_resuming_is_exact_and_stock_diffusers_loads_the_result(start):
    data, root = start
    recipe = ImageTrainRecipe(**TINY)
    whole = list(train(recipe, data, root / "whole"))
    first = train(recipe, data, root / "parts")
    for _ in range(2):
        next(first)
    first.close()
    rest = list(train(recipe, data, root / "parts", resume=True))
    assert [s.loss for s in rest] == [s.loss for s in whole[2:]]
    unets = [UNet2DConditionModel.from_pretrained(root / name / "unet").state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(unets[0][k], unets[1][k]) for k in unets[0])

    pipeline = StableDiffusionPipeline.from_pretrained(root / "whole")
    pipeline.set_progress_bar_config(disable=True)
    assert all(p.dtype == torch.float32 for m in (pipeline.unet, pipeline.text_encoder) for p in m.parameters())
    generator = torch.Generator().manual_seed(0)
    picture = pipeline("a red cube", num_inference_steps=2, generator=generator, output_type="np").images[0]
    assert picture.shape == (32, 32, 3)
    assert np.isfinite(picture).all()
    said = {piece for group in find_folders(data) for entry in group.entries for piece in pieces(entry["caption"])}
    assert set(TextConditioner(pipeline.tokenizer, pipeline.text_encoder).vocabulary()) == said


def test_half_precision_weights_are_stored(start):
    data, root = start
    list(train(ImageTrainRecipe(**{**TINY, "steps": 1}), data, root / "whole"))
    size = (root / "whole" / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    count = sum(p.numel() for p in UNet2DConditionModel.from_pretrained(root / "whole" / "unet").parameters())
    assert size == pytest.approx(2 * count, rel=0.1)


def test_continuing_starts_from_the_networks_that_are_there(start):
    data, root = start
    list(train(ImageTrainRecipe(**{**TINY, "steps": 1}), data, root / "whole"))
    before = UNet2DConditionModel.from_pretrained(root / "whole" / "unet").state_dict()
    still = {**TINY, "steps": 1, "learning_rate": 1e-9, "weight_decay": 0, "start": "continue", "seed": 5}
    list(train(ImageTrainRecipe(**still), data, root / "whole"))
    after = UNet2DConditionModel.from_pretrained(root / "whole" / "unet").state_dict()
    assert all(torch.allclose(before[k], after[k], atol=1e-3) for k in before)


def test_continuing_from_another_model_with_another_autoencoder_keeps_all_but_the_outer_convolutions(start, tmp_path):
    data, root = start
    list(train(ImageTrainRecipe(**{**TINY, "steps": 1}), data, root / "whole"))
    channels = AutoencoderTiny.from_pretrained(root / "whole" / "vae").config["latent_channels"] + 2
    recipe = AutoencoderTrainRecipe(steps=1, batch_size=2, size=32, channels=8, latent_channels=channels)
    list(train_autoencoder(recipe, data, tmp_path))
    still = {"steps": 1, "learning_rate": 1e-9, "weight_decay": 0, "start": "continue", "model": str(root / "whole")}
    list(train(ImageTrainRecipe(**{**TINY, **still}), data, tmp_path))
    before = UNet2DConditionModel.from_pretrained(root / "whole" / "unet").state_dict()
    after = UNet2DConditionModel.from_pretrained(tmp_path / "unet").state_dict()
    kept = {k for k in before if before[k].shape == after[k].shape and torch.allclose(before[k], after[k], atol=1e-3)}
    assert {k.split(".")[0] for k in before.keys() - kept} == {"conv_in", "conv_out"}
    assert after["conv_in.weight"].shape[1] == after["conv_out.weight"].shape[0] == channels
    assert UNet2DConditionModel.from_pretrained(tmp_path / "unet").config["sample_size"] == 32 // 4


def test_without_an_autoencoder_it_says_so(data, tmp_path):
    with pytest.raises(ModelError, match="Train it first"):
        next(train(ImageTrainRecipe(**TINY), data, tmp_path))


def test_the_schedule_ends_in_pure_noise_and_sampling_starts_there():
    scheduler = build_scheduler()
    assert NoiseSchedule.from_scheduler(scheduler).alpha_bar(torch.tensor([999])) == 0
    scheduler.set_timesteps(10)
    assert isinstance(scheduler, DDIMScheduler)
    assert scheduler.timesteps[0] == 999


def test_checkpointing_trains_the_same(start):
    data, root = start
    recipes = (ImageTrainRecipe(**TINY, checkpointing=on) for on in (False, True))
    losses = [[s.loss for s in train(r, data, root / out)] for r, out in zip(recipes, ("whole", "parts"), strict=True)]
    assert losses[0] == losses[1]


def test_a_loss_is_the_weighted_mean_of_what_pictures_say_at_their_own_noise_levels(monkeypatch):
    """Of latents that are 0 everywhere x_t is sigma eps; to the answer 0 the error is E v^2 = alpha^2 E eps^2."""
    unet, seen = tiny_unet(), []

    def forward(x_t, t, encoder_hidden_states):
        seen.append((x_t, t))
        return UNet2DConditionOutput(sample=torch.zeros_like(x_t, requires_grad=True))

    monkeypatch.setattr(unet, "forward", forward)
    schedule = NoiseSchedule.from_scheduler(build_scheduler())
    recipe = ImageTrainRecipe(steps=2, batch_size=3, min_snr_gamma=0.5, noise_bias=1.0, precision="fp32")
    batch = ImageBatch(torch.zeros(3, 4, 64, 64), torch.zeros(3, 16, dtype=torch.long))
    states = list(train_image(unet, tiny_text()[1], lambda step: batch, schedule, recipe))
    for state, (x_t, t) in zip(states, seen, strict=True):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        assert len(set(t.tolist())) == 3
        for each, deviation in zip(x_t, sigma, strict=True):
            assert float(each.std()) == pytest.approx(float(deviation), rel=0.05)
        snr = alpha**2 / sigma**2
        weight = (snr.clamp(max=0.5) + 1) / (snr + 1)
        power = alpha**2 * x_t.square().mean((1, 2, 3)) / sigma**2
        assert state.loss == pytest.approx(float((weight * power).mean()), rel=1e-3)
