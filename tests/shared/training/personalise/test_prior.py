"""The model's own pictures of a class, made once."""

import torch

from shared.images.generate import sample_images
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.training.personalise.prior import FILE, prior_examples
from shared.training.personalise.recipe import DreamboothTrainRecipe


def test_they_are_what_the_model_makes_of_the_class_and_are_kept(model, tmp_path, monkeypatch):
    recipe = DreamboothTrainRecipe(
        concept="zork", class_prompt="a cone", prior_pictures=3, prior_steps=2, seed=4, model=model
    )
    loaded = load_image_model(model)
    made = prior_examples(loaded, recipe, tmp_path)
    assert made.captions == ["a cone"] * 3
    *_, last = sample_images(loaded, ["a cone"] * 3, [4, 5, 6], ImageRecipe(prompt="a cone", steps=2))
    assert (made.latents - last.latents).abs().max() < 1e-4
    kept = (tmp_path / FILE).read_bytes()
    monkeypatch.setattr("shared.training.personalise.prior.sample", None)  # nothing is made again
    assert torch.equal(prior_examples(loaded, recipe, tmp_path).latents, made.latents)
    monkeypatch.undo()
    other = prior_examples(loaded, recipe.model_copy(update={"class_prompt": "a duck"}), tmp_path)
    assert not torch.equal(other.latents, made.latents)
    assert (tmp_path / FILE).read_bytes() != kept
