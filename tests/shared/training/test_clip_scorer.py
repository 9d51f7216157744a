"""The contrastive stage: its loss against others', and that it learns what it is shown."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil, CLIPTextModel, CLIPVisionModelWithProjection
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from shared.errors import ModelError
from shared.models.prompts.text import TextConditioner
from shared.rng import generator
from shared.training.clip_scorer import augmented, contrastive_loss, train
from shared.training.recipe import ScorerTrainRecipe
from tests.shared.training.conftest import write_samples
from tests.tiny import build_image_folder, tiny_text
from tests.tolerances import close

TINY = {
    "size": 32,
    "steps": 4,
    "batch_size": 6,
    "image_width": 32,
    "image_layers": 1,
    "patch_size": 8,
    "warmup_steps": 2,
    "checkpoint_minutes": 1e-9,
    "ema_decay": 0.5,
}


def unit(count, width, seed):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_loss_is_clips_own_where_captions_differ():
    images, texts, scale = unit(7, 16, 0), unit(7, 16, 1), torch.tensor(1.3)
    ours = contrastive_loss(images, texts, [str(i) for i in range(7)], scale)
    theirs = image_text_contrastive_loss(scale.exp() * texts @ images.T)
    torch.testing.assert_close(ours, theirs, **close(torch.float32))


def test_pictures_of_one_caption_are_not_each_others_negatives():
    captions = ["a", "b", "a", "c", "a"]
    images, texts, scale = unit(5, 8, 2), unit(5, 8, 3), torch.tensor(0.7)
    texts[2] = texts[4] = texts[0]

    def side(queries, keys):
        total = 0.0
        for i, query in enumerate(queries):
            terms = [
                math.exp(math.exp(0.7) * float(query @ keys[j]))
                for j in range(5)
                if j == i or captions[j] != captions[i]
            ]
            own = math.exp(math.exp(0.7) * float(query @ keys[i]))
            total -= math.log(own / sum(terms)) / 5
        return total

    expected = (side(images, texts) + side(texts, images)) / 2
    assert float(contrastive_loss(images, texts, captions, scale)) == pytest.approx(expected, rel=1e-5)


def test_caption_features_are_the_end_tokens_state():
    tokenizer, text = tiny_text()
    features = TextConditioner(tokenizer, text).features(["a red cube", "a blue ball moving left"])
    for row, caption in zip(features, ["a red cube", "a blue ball moving left"], strict=True):
        alone = text(tokenizer([caption], return_tensors="pt").input_ids).last_hidden_state[0, -1]  # no padding here
        torch.testing.assert_close(row, F.normalize(alone, dim=-1).detach(), **close(torch.float32))


@pytest.fixture
def model(tmp_path):
    return build_image_folder(tmp_path / "model")


def test_resuming_is_exact_the_text_encoder_stays_and_transformers_loads_the_tower(data, model):
    before = (model / "text_encoder" / "model.safetensors").read_bytes()
    recipe = ScorerTrainRecipe(**TINY)
    whole = list(train(recipe, data, model))
    tower = CLIPVisionModelWithProjection.from_pretrained(model / "image_encoder")
    assert next(tower.parameters()).dtype == torch.float32
    assert tower.config.projection_dim == CLIPTextModel.from_pretrained(model / "text_encoder").config.hidden_size
    for state in (first := train(recipe, data, model)):
        if state.step == 2:
            break
    first.close()
    rest = list(train(recipe, data, model, resume=True))
    assert [s.loss for s in rest] == [s.loss for s in whole[2:]]
    again = CLIPVisionModelWithProjection.from_pretrained(model / "image_encoder").state_dict()
    assert all(torch.equal(v, again[k]) for k, v in tower.state_dict().items())
    assert (model / "text_encoder" / "model.safetensors").read_bytes() == before


def test_stock_preprocessing_gives_the_range_it_was_trained_with(data, model):
    list(train(ScorerTrainRecipe(**{**TINY, "steps": 1}), data, model))
    processor = CLIPImageProcessorPil.from_pretrained(model / "image_encoder")
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = processor(picture, return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(found, torch.tensor(picture).permute(2, 0, 1) / 127.5 - 1, **close(torch.float32))


def test_it_learns_to_tell_colours(tmp_path, model):
    class Flat:
        def __init__(self, colour, level):
            self.caption = f"a {colour} cube"
            self.pixels = np.full((1, 32, 32, 3), level, np.uint8)

    colours = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (30, 50, 230), "yellow": (250, 220, 20)}
    write_samples(tmp_path / "flat", [Flat(c, level) for c, level in colours.items()])
    recipe = ScorerTrainRecipe(**{**TINY, "steps": 60, "batch_size": 16, "learning_rate": 3e-3, "precision": "fp32"})
    states = list(train(recipe, tmp_path / "flat", model))
    assert states[-1].metrics["retrieval"] == 1
    assert states[-1].loss < 0.2 < states[0].loss


def test_without_a_text_encoder_it_says_so(data, tmp_path):
    with pytest.raises(ModelError, match="Train images first"):
        next(train(ScorerTrainRecipe(**TINY), data, tmp_path))


def test_checkpointing_trains_the_same(data, tmp_path):
    out = build_image_folder(tmp_path / "model")
    losses = [
        [state.loss for state in train(ScorerTrainRecipe(**TINY, checkpointing=on), data, out)] for on in (False, True)
    ]
    assert losses[0] == losses[1]


def test_augmented_pictures_are_moved_scaled_and_noisy_by_no_more_than_asked():
    pixels = torch.full((64, 3, 32, 32), -1.0)
    pixels[:, :, 12:20, 12:20] = 1.0  # a square of 8 in the middle
    assert augmented(pixels, 0.0, generator(0)) is pixels
    seen = augmented(pixels, 0.5, generator(0))
    mass = (seen.mean(1) + 1) / 2
    places = torch.arange(32) + 0.5
    for axis in (1, 2):
        middle = (mass.sum(3 - axis) * places).sum(1) / mass.sum((1, 2)) - 16
        assert 0.5 < middle.abs().max() < 0.125 * 0.5 * 32 + 0.6
    sides = mass.sum((1, 2)).clamp(min=0).sqrt()
    assert 8 / 1.1 - 0.6 < sides.min() < 7.6
    assert 8.4 < sides.max() < 8 / 0.9 + 0.6
    assert 0.03 < (seen - seen.mean(1, keepdim=True)).std() < 0.06
    assert torch.equal(seen, augmented(pixels, 0.5, generator(0)))
