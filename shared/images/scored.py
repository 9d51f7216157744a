"""The score that a picture's recipe is guided by: how well what its latents show fits the prompt."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from shared.compute.execution import execution_device
from shared.diffusion.guidance_name import CLIP
from shared.diffusion.scored import Score
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import ImageModel
from shared.plugins import load


def score_of(model: ImageModel, recipe: ImageRecipe, prompts: list[str]) -> Score | None:
    """(latents of a sample for each prompt) -> the similarity of each with its prompt; None without guidance by it.

    Raises ModelError where neither the model nor the recipe has a CLIP, InputError for a scorer of a plug-in that has
    no gradient.
    """
    if not recipe.clip_guidance:
        return None
    folder = model.path if recipe.clip_model is None else Path(recipe.clip_model).parent
    device = execution_device(model.unet)
    if recipe.scorer in (None, CLIP):
        scorer = ClipScorer.from_folder(folder, device=device)
    else:
        scorer = load("scorers", recipe.scorer)(str(folder))
        if not hasattr(scorer, "similarity"):
            raise InputError(
                f"clip-guidance with scorer {recipe.scorer}", expected="one with similarity(pixels, prompts)",
                got="one with score(frames, prompt) alone, which has no gradient",
            )  # fmt: skip

    def score(latents: Tensor) -> Tensor:
        return scorer.similarity(model.codec.decode(latents.float()), prompts)

    return score
