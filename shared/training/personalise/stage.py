"""The stages that teach an image model something new from a few pictures: low-rank layers, a new word, or both.

x0: latents of the pictures; the loss is that of the model's own kind of prediction (`denoising_loss`). What is trained
lies beside the model's weights, which stay as they are; what is left is one or two small files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.compute.execution import execution_device
from shared.compute.modes import checkpointed
from shared.errors import InputError
from shared.models.image_model import ImageModel, load_image_model
from shared.rng import generator
from shared.training import ranks
from shared.training.loop import Training, TrainState, seeded
from shared.training.objective import denoising_loss, stratified_timesteps
from shared.training.optimizers import Group, build_optimizer
from shared.training.personalise import low_rank, words
from shared.training.personalise.examples import Examples, read_examples
from shared.training.personalise.prior import prior_examples
from shared.training.personalise.recipe import (
    ConceptRecipe,
    DreamboothTrainRecipe,
    LoraTrainRecipe,
    TextualInversionRecipe,
)
from shared.training.text_encoder import check_one_encoder

TRIED = 8  # pictures on which words are tried as a new one's beginning
CHECKPOINTS = {LoraTrainRecipe: "lora.pt", DreamboothTrainRecipe: "dreambooth.pt",
               TextualInversionRecipe: "textual-inversion.pt"}  # fmt: skip


@dataclass(frozen=True)
class Learner:
    """model: with what is learned in its place. layers: weights of low-rank layers, of the UNet and then of the text
    encoder. word: the new one, and its rows; None where there is none."""

    model: ImageModel
    layers: nn.ParameterList
    word: tuple[str, words.NewRows] | None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What is trained, for a checkpoint."""
        found: dict[str, nn.Module] = {"layers": self.layers}
        if self.word is not None:
            found["word"] = nn.ParameterList([self.word[1].rows])
        return found

    def save(self, out: Path, recipe: ConceptRecipe, pictures: int) -> None:
        if isinstance(recipe, LoraTrainRecipe):
            parts: dict[str, nn.Module] = {low_rank.UNET: self.model.unet}
            if recipe.text_rank:
                parts[low_rank.TEXT] = self.model.text.text_encoder
            low_rank.save_low_rank(out, parts, about(recipe, pictures))
        if self.word is not None:
            words.save_word(out, *self.word)


def about(recipe: LoraTrainRecipe, pictures: int) -> dict[str, str]:
    """What other tools show of a LoRA, by kohya-ss' names."""
    values = {
        "network_module": "networks.lora", "network_dim": recipe.rank, "network_alpha": recipe.rank,
        "num_train_images": pictures, "steps": recipe.steps, "learning_rate": recipe.learning_rate, "seed": recipe.seed,
    }  # fmt: skip
    if recipe.model == "world":  # else it may be a path of this machine's
        values["base_model_version"] = "kinoform world"
    return {f"ss_{name}": str(value) for name, value in values.items()}


def learner(model: ImageModel, recipe: ConceptRecipe, examples: Examples) -> Learner:
    """What a recipe trains, put into `model`.

    Raises InputError for a word that the model has, for several new ones, and for one that no caption has.
    """
    new = new_word(model, recipe)
    text, rows = model.text, None
    if new is not None:
        if not any(new.lower() in caption.lower() for caption in examples.captions):
            raise InputError("concept", expected="a word of the captions", got=f"{new}, which none of them has")
        count = recipe.vectors if isinstance(recipe, TextualInversionRecipe) else 1
        tried = Examples(examples.latents[:TRIED], examples.captions[:TRIED])

        @torch.no_grad()
        def loss_of(word: str) -> float:
            said = Examples(tried.latents, [caption.replace(new, word) for caption in tried.captions])
            return float(loss_on(model, said, recipe, generator(recipe.seed, 5)))

        vectors = words.first_vectors(text, recipe.starts_as, count, recipe.seed, loss_of)
        text, rows = words.learn_word(text, new, vectors)
    layers = nn.ParameterList()
    if isinstance(recipe, LoraTrainRecipe):
        with seeded(recipe.seed):
            targets = low_rank.ALL if recipe.layers == "all" else low_rank.ATTENTION
            layers.extend(low_rank.add_low_rank(model.unet, recipe.rank, targets))
            if recipe.text_rank:
                layers.extend(low_rank.add_low_rank(text.text_encoder, recipe.text_rank, low_rank.OF_TEXT))
    word = None if new is None or rows is None else (new, rows)
    return Learner(replace(model, text=text), layers, word)


def new_word(model: ImageModel, recipe: ConceptRecipe) -> str | None:
    """The word to learn; None where low-rank layers alone will do, since the model can read all of the concept."""
    if isinstance(recipe, TextualInversionRecipe):
        return recipe.concept
    unknown = [] if recipe.concept is None else model.text.unknown_words(recipe.concept)
    if len(unknown) > 1:
        raise InputError("concept", expected="one word that the model does not know", got=" ".join(unknown))
    return unknown[0] if unknown else None


def loss_on(model: ImageModel, seen: Examples, recipe: ConceptRecipe, draw: torch.Generator) -> Tensor:
    """The denoising loss on some pictures, at noise levels and with noise from `draw`."""
    device = execution_device(model.unet)
    x0 = seen.latents.to(device)
    t = stratified_timesteps(len(x0), model.schedule.num_timesteps, draw, bias=recipe.noise_bias).to(device)
    eps = torch.randn(x0.shape, generator=draw).to(x0)
    ids = model.text.token_ids(seen.captions).to(device)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return model.unet(x_t, t, encoder_hidden_states=model.text.text_encoder(ids).last_hidden_state).sample

    return denoising_loss(
        predict, model.schedule, x0, eps, t,
        prediction_type=model.prediction_type, gamma=recipe.min_snr_gamma, precision=recipe.precision,
    )  # fmt: skip


def train_concept(
    learned: Learner,
    recipe: ConceptRecipe,
    examples: Examples,
    prior: Examples | None = None,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Trains what was put into the model, one yield a step; when exhausted, it holds the averaged weights.

    prior: pictures that are seen beside the examples, as many in each step. Raises InputError when there is nothing to
    resume from.
    """
    groups: list[Group] = []
    usual: Group = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "matrices": True}
    if len(learned.layers):
        groups.append({"params": list(learned.layers), **usual})
    if learned.word is not None:
        if isinstance(recipe, LoraTrainRecipe):
            usual = {"lr": recipe.token_learning_rate, "weight_decay": 0.0, "matrices": False}
        groups.append({"params": [learned.word[1].rows], **usual})
    optimizer = build_optimizer(recipe, groups)
    training = Training(recipe, learned.modules, checkpoint, resume=resume, optimizer=optimizer)
    model = learned.model

    def loss_at(number: int) -> tuple[Tensor, dict[str, float]]:
        draw = generator(recipe.seed, number, 0)
        seen = examples.draw(recipe.batch_size, number, recipe.seed, 1)
        with checkpointed(model.unet, recipe.checkpointing):
            loss = loss_on(model, seen.without_some_captions(recipe.caption_dropout, draw), recipe, draw)
            if prior is None or not isinstance(recipe, DreamboothTrainRecipe):
                return loss, {}
            kept = loss_on(model, prior.draw(recipe.batch_size, number, recipe.seed, 2), recipe, draw)
        return loss + recipe.prior_weight * kept, {"prior": float(kept.detach())}

    yield from training.run(loss_at)


def train(
    recipe: ConceptRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """Trains on the pictures below `data`; leaves `pytorch_lora_weights.safetensors` in `out`, of LoRA and DreamBooth,
    and `learned_embeds.safetensors`, of a new word. Raises ModelError for a model with two text encoders.
    """
    model = load_image_model(recipe.model, device=device)
    check_one_encoder(model)
    examples = read_examples(data, model.codec, model.default_size, recipe.caption)
    prior = prior_examples(model, recipe, out) if isinstance(recipe, DreamboothTrainRecipe) else None
    learned = learner(model, recipe, examples)
    states = train_concept(
        learned, recipe, examples, prior, checkpoint=out / CHECKPOINTS[type(recipe)], resume=resume
    )  # fmt: skip
    for state in states:
        yield replace(state, model=lambda: learned.model)
    if ranks.rank() == 0:
        learned.save(out, recipe, len(examples.captions))
