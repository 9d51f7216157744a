"""The text transformer of the image stage: words kept apart, and words added."""

import pytest
import torch

from shared.errors import ModelError
from shared.models.image_model import load_text
from shared.models.source import resolve_model
from shared.training.personalise import stage as personalise
from shared.training.personalise.recipe import LoraTrainRecipe
from shared.training.recipe import ImageTrainRecipe
from shared.training.text_encoder import new_text, with_words
from tests.near import near
from tests.tiny import build_xl_folder
from tests.video.tiny import write_clips
from video.recipe import VideoTrainRecipe
from video.training import stage as video

SMALL = ImageTrainRecipe(text_width=48, text_layers=1)


def test_a_new_text_transformer_keeps_every_word_apart():
    """Captions that differ in one word, whichever kind, differ as much; with transformers' own start they hardly do."""
    with torch.no_grad():
        torch.manual_seed(0)
        text = new_text(SMALL, ["a red cube", "a blue cube", "a red chair"])
        start, colour, shape = text.encode(["a red cube", "a blue cube", "a red chair"])
    for other, place in ((colour, 2), (shape, 3)):  # after the start token and "a"
        assert torch.cosine_similarity(start[place], other[place], dim=0) < 0.7
        assert torch.equal(start[:place], other[:place])  # earlier tokens cannot see it


def test_no_word_of_the_captions_is_unknown():
    text = new_text(SMALL, ["A striped zebra, galloping", "日本 🦆"])
    assert text.unknown_words("a ZEBRA striped galloping 日本 🦆") == []
    assert text.unknown_words("a red zebra 🐱") == ["red", "🐱"]


@pytest.mark.parametrize("caption", ["a striped zebra", "zebra " * 40])
def test_the_embedded_model_learns_words_and_forgets_none(caption):
    known = load_text(resolve_model("world"))
    more = with_words(known, ImageTrainRecipe(), [caption])
    assert known.unknown_words(caption)
    assert more.unknown_words(f"a red cube on top of a {caption}") == []
    assert more.max_length == (24 if len(caption) < 30 else 50)
    with torch.no_grad():
        prompts = ["a red cube on top of a blue sphere", "a duck, side view"]
        near(more.encode(prompts)[:, :24], known.encode(prompts))
        zebra = more.text_encoder.embeddings.token_embedding.weight[more.tokenizer.convert_tokens_to_ids("zebra</w>")]
    assert 0.8 < zebra.std() < 1.2
    assert zebra.requires_grad


def test_where_all_words_are_known_nothing_changes():
    known = load_text(resolve_model("world"))
    assert with_words(known, ImageTrainRecipe(), ["a red cube"]).text_encoder is known.text_encoder


def test_a_model_with_two_text_encoders_is_refused_by_every_stage_that_would_tell_it_of_one(tmp_path):
    model = str(build_xl_folder(tmp_path / "xl"))
    data = write_clips(tmp_path / "data")
    for train, recipe in (
        (personalise.train, LoraTrainRecipe(model=model, steps=1)),
        (video.train, VideoTrainRecipe(model=model, steps=1)),
    ):
        with pytest.raises(ModelError, match="expected a model with one text encoder, got 2 of them"):
            next(train(recipe, data, tmp_path / recipe.__class__.__name__))
