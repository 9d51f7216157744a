"""Whether a recipe gives what a model's UNet sees beside latents, and nothing that it does not. Imports no torch."""

from __future__ import annotations

from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from shared.models.pipelines.classes import DEPTH, SMALL

WANTED_BY = {"depth": DEPTH, "noise_level": SMALL}


def check_sees(recipe: ImageRecipe, sees: str | None, model: str) -> None:
    """sees: what the UNet of `model` sees beside latents, of `shared.models.pipelines.classes.SEES`.

    Raises InputError for a key that has no part in what such a model makes, and for a picture that is missing.
    """
    for key, wanted in WANTED_BY.items():
        if getattr(recipe, key) is not None and sees != wanted:
            got = "latents alone" if sees is None else sees
            what = f"{key.replace('_', '-')} with model {model}"
            raise InputError(what, expected=f"one whose UNet sees {wanted}", got=f"one whose UNet sees {got}")
    if sees == DEPTH and recipe.image is None and recipe.depth is None:
        raise InputError(f"model {model}, which sees depth", expected="--image or --depth, or both", got="neither")
    if sees != SMALL:
        return
    if recipe.image is None:
        raise InputError(f"model {model}, which makes pictures larger", expected="--image", got="none")
    for key in ("strength", "mask", "extend"):
        if getattr(recipe, key) is not None:
            what = f"{key} with model {model}, which makes pictures larger"
            hint = "How freely it changes the picture, says --noise-level" if key == "strength" else ""
            raise InputError(what, expected="none, as it begins with noise alone", got=getattr(recipe, key), hint=hint)
