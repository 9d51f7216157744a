"""The autoencoder stage: it learns, and a stopped training goes on as if it had never stopped."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderTiny
from torch.nn.functional import avg_pool2d

from shared.errors import ModelError
from shared.latents.codec import Codec
from shared.training.autoencoder import first_network, latent_loss, reconstruction_loss, train
from shared.training.data.arrays import draw_pictures, find_folders, load_media
from shared.training.recipe import AutoencoderTrainRecipe
from tests.tiny import build_image_folder, tiny_temporal_vae

TINY = {
    "size": 32,
    "steps": 6,
    "batch_size": 4,
    "channels": 8,
    "encoder_blocks": (0, 1, 1),
    "decoder_blocks": (1, 1, 1),
    "warmup_steps": 2,
    "checkpoint_minutes": 1e-9,
    "ema_decay": 0.5,
}


def weights(folder):
    return AutoencoderTiny.from_pretrained(folder / "vae").state_dict()


def test_continuing_starts_from_the_models_autoencoder_and_then_from_that_of_the_folder(data, tmp_path):
    source = build_image_folder(tmp_path / "source")
    still = {**TINY, "steps": 1, "learning_rate": 1e-9, "weight_decay": 0, "start": "continue", "model": str(source)}
    list(train(AutoencoderTrainRecipe(**still), data, tmp_path / "out"))
    before, after = weights(source), weights(tmp_path / "out")
    assert all(torch.allclose(before[k], after[k], atol=1e-3) for k in before)
    list(train(AutoencoderTrainRecipe(**{**TINY, "start": "continue", "learning_rate": 0.01}), data, tmp_path / "out"))
    moved = weights(tmp_path / "out")
    assert moved.keys() == before.keys()
    assert not all(torch.allclose(before[k], moved[k], atol=1e-3) for k in before)
    assert first_network(AutoencoderTrainRecipe(**still), tmp_path / "out").config["scaling_factor"] != 1.0


def test_an_autoencoder_of_another_kind_is_not_trained_on(tmp_path):
    folder = build_image_folder(tmp_path)
    shutil.rmtree(folder / "vae")
    tiny_temporal_vae().save_pretrained(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKLTemporalDecoder"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="an AutoencoderTiny, got AutoencoderKLTemporalDecoder"):
        first_network(AutoencoderTrainRecipe(start="continue", model=str(folder)))


def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(data, tmp_path):
    recipe = AutoencoderTrainRecipe(**TINY)
    whole = list(train(recipe, data, tmp_path / "whole"))
    first = train(recipe, data, tmp_path / "parts")
    for _ in range(3):
        next(first)
    first.close()
    rest = list(train(recipe, data, tmp_path / "parts", resume=True))
    assert [s.step for s in rest] == [4, 5, 6]
    assert [s.loss for s in rest] == [s.loss for s in whole[3:]]
    assert [s.lr for s in rest] == [s.lr for s in whole[3:]]
    assert rest[0].seconds > whole[0].seconds  # the clock goes on too
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_the_scaling_factor_brings_latents_to_unit_deviation(data, tmp_path):
    recipe = AutoencoderTrainRecipe(**{**TINY, "steps": 60, "learning_rate": 3e-3, "precision": "fp32"})
    losses = [state.loss for state in train(recipe, data, tmp_path)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    codec = Codec(AutoencoderTiny.from_pretrained(tmp_path / "vae").eval())
    folders = [load_media(f, size=32) for f in find_folders(data)]
    pixels, _ = draw_pictures(folders, 64, 0.3, torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert float(codec.encode(pixels).std()) == pytest.approx(1, abs=0.1)


def test_latent_loss_equals_a_loop_and_is_nothing_for_what_it_wants():
    latents = 2 * torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    expected = 0.0
    for channel in latents.double().unbind(1):
        expected += 0.01 * (channel.mean() ** 2 + (channel.std() - 1) ** 2) / 2
    expected += 0.1 * sum(max(abs(z) - 3, 0) ** 2 for z in latents.flatten().tolist()) / latents.numel()
    assert float(latent_loss(latents)) == pytest.approx(float(expected), rel=1e-5)
    wanted = torch.linspace(-1, 1, 9).view(1, 1, 3, 3)
    assert float(latent_loss(wanted / wanted.std())) == pytest.approx(0, abs=1e-10)


def test_the_scale_loss_makes_half_size_latents_decode_to_half_size_pictures(data, tmp_path):
    folders = [load_media(f, size=32) for f in find_folders(data)]
    pixels, _ = draw_pictures(folders, 32, 0.3, torch.Generator().manual_seed(9))
    errors = []
    for weight in (0.0, 10.0):
        recipe = {**TINY, "steps": 60, "learning_rate": 3e-3, "precision": "fp32", "scale_weight": weight}
        list(train(AutoencoderTrainRecipe(**recipe), data, tmp_path / str(weight)))
        model = AutoencoderTiny.from_pretrained(tmp_path / str(weight) / "vae").eval()
        with torch.no_grad():
            latents = model.encode(pixels).latents
            small, whole = (model.decode(z).sample for z in (avg_pool2d(latents, 2), latents))
        error = reconstruction_loss(small, avg_pool2d(pixels, 2)) / reconstruction_loss(whole, pixels)
        errors.append(float(error))  # after so few steps, how good the whole is differs more than this does
    assert errors[1] < 0.95 * errors[0]


def test_another_seed_is_another_model(data, tmp_path):
    for seed in (0, 1):
        list(train(AutoencoderTrainRecipe(**{**TINY, "steps": 1, "seed": seed}), data, tmp_path / str(seed)))
    a, b = weights(tmp_path / "0"), weights(tmp_path / "1")
    assert any(not torch.equal(a[k], b[k]) for k in a)


def test_checkpointing_trains_the_same(data, tmp_path):
    recipes = [AutoencoderTrainRecipe(**{**TINY, "steps": 3}, checkpointing=on) for on in (False, True)]
    losses = [[state.loss for state in train(recipe, data, tmp_path / str(recipe.checkpointing))] for recipe in recipes]
    assert losses[0] == losses[1]
