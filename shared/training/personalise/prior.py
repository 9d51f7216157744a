"""The pictures that a model makes of a class before it learns one of its kind, so that it does not forget the rest."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from pathlib import Path

import torch
from safetensors import safe_open

from shared.diffusion.guidance import guided
from shared.diffusion.sampling import sample
from shared.models.image_model import ImageModel
from shared.training.personalise.examples import Examples
from shared.training.personalise.low_rank import write_safetensors
from shared.training.personalise.recipe import DreamboothTrainRecipe

FILE = "prior.safetensors"
BATCH = 8  # pictures that are made at once
SCALE, RESCALE = 5.0, 0.5  # of guidance, as pictures are made by default


@torch.no_grad()
def prior_examples(model: ImageModel, recipe: DreamboothTrainRecipe, out: Path) -> Examples:
    """Latents of `recipe.prior_pictures` pictures of the class, made by `model` or kept in `out` from before."""
    asked = [recipe.class_prompt, recipe.prior_pictures, recipe.prior_steps, recipe.seed, model.hashes()]
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    captions = [recipe.class_prompt] * recipe.prior_pictures
    if (out / FILE).is_file():
        with safe_open(out / FILE, framework="pt") as opened:
            if (opened.metadata() or {}).get("made_from") == key:
                return Examples(opened.get_tensor("latents"), captions)
    side = model.default_size // model.codec.factor
    denoiser = guided(model.denoiser, model.conditions([""]), SCALE, rescale=RESCALE)
    asked_for = model.conditions([recipe.class_prompt])
    seeds = [recipe.seed + i for i in range(recipe.prior_pictures)]
    made = []
    for start in range(0, len(seeds), BATCH):
        states = sample(
            denoiser, model.make_scheduler(), shape=(model.codec.latent_channels, side, side),
            seeds=seeds[start : start + BATCH], conditioning=asked_for, steps=recipe.prior_steps,
        )  # fmt: skip
        made.append(deque(states, maxlen=1)[0].latents.float().cpu())
    latents = torch.cat(made)
    out.mkdir(parents=True, exist_ok=True)
    write_safetensors(out / FILE, {"latents": latents}, {"made_from": key})
    return Examples(latents, captions)
