"""The image stage: its loss weights, its exact resuming, and a folder that stock diffusers takes."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from shared.errors import ModelError
from shared.schedule import NoiseSchedule
from shared.training.image import build_scheduler, build_text, draw_timesteps, loss_weight, train, word_loss
from shared.training.recipe import ImageTrainRecipe
from shared.world.prompt import vocabulary
from shared.world.tokenizer import build_tokenizer
from tests.tiny import tiny_vae

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
    assert set(vocabulary()) <= {t.removesuffix("</w>") for t in pipeline.tokenizer.get_vocab()}


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


def test_word_loss_is_the_cross_entropy_of_every_spoken_word():
    recipe = ImageTrainRecipe(**TINY)
    tokenizer = build_tokenizer(vocabulary(), 12)
    text = build_text(recipe, tokenizer)
    ids = tokenizer(["a red cube", "a blue duck moving left"], padding="max_length", return_tensors="pt").input_ids
    tokens = torch.randn(2, 12, 48, generator=torch.Generator().manual_seed(0))
    words = text.get_input_embeddings().weight.detach()
    losses = []
    for row, states in zip(ids.tolist(), tokens, strict=True):
        mean = states.mean(0)
        cosines = torch.stack([torch.dot(mean, w) / (mean.norm() * w.norm()) for w in words])
        logs = (20 * cosines).log_softmax(0)
        losses += [-float(logs[i]) for i in row if i not in (tokenizer.bos_token_id, tokenizer.eos_token_id)]
    assert len(losses) == 8
    assert float(word_loss(tokens, ids, words, tokenizer)) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("bias", [1.0, 1.6])
def test_timesteps_have_the_wanted_distribution(bias):
    schedule = NoiseSchedule.from_scheduler(build_scheduler())
    t = draw_timesteps(schedule, 20_000, bias, torch.Generator().manual_seed(0))
    assert t.min() >= 0
    assert t.max() <= 999
    for x in (0.25, 0.5, 0.9):
        below = float((t < 1000 * x).float().mean())
        assert below == pytest.approx(1 - (1 - x) ** (1 / bias), abs=0.015)


def test_without_an_autoencoder_it_says_so(data, tmp_path):
    with pytest.raises(ModelError, match="Train it first"):
        next(train(ImageTrainRecipe(**TINY), data, tmp_path))


def test_loss_weight_is_one_in_noise_and_caps_the_clean_end():
    schedule = NoiseSchedule.from_scheduler(build_scheduler())
    t = torch.tensor([0, 10, 300, 999])
    weight = loss_weight(schedule, t, gamma=5.0)
    snr = [a / (1 - a) for a in schedule.alpha_bar(t).double().tolist()]
    expected = [(min(s, 5.0) + 1) / (s + 1) for s in snr]
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert weight[-1] == 1
    assert weight[0] < 0.02


def test_the_schedule_ends_in_pure_noise_and_sampling_starts_there():
    scheduler = build_scheduler()
    assert NoiseSchedule.from_scheduler(scheduler).alpha_bar(torch.tensor([999])) == 0
    scheduler.set_timesteps(10)
    assert isinstance(scheduler, DDIMScheduler)
    assert scheduler.timesteps[0] == 999
