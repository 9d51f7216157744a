"""The stages that teach a model something new from a few pictures or clips: low-rank layers, a new word, or both.

x0: latents of these; the loss is that of the model's own kind of prediction (`denoising_loss`). What is trained
lies beside the model's weights, which stay as they are; what is left is one or two small files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.compute.execution import execution_device
from shared.compute.modes import checkpointed
from shared.diffusion.step_noise import Draw, standard_normal
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
# By what a file calls them: networks, and how the names of their modules that get low-rank layers end.
Targets = Mapping[str, tuple[nn.Module, list[str]]]
LossOf = Callable[[ImageModel, Examples, ConceptRecipe, torch.Generator], Tensor]


@dataclass(frozen=True)
class Learner:
    """model: with what is learned in its place. networks: those with low-rank layers, by what a file calls them, the
    text encoder last. layers: weights of these, in this order. word: the new one, and its rows; None where there is
    none."""

    model: ImageModel
    networks: dict[str, nn.Module]
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
            low_rank.save_low_rank(out, self.networks, about(recipe, pictures))
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


def loss_on(
    model: ImageModel,
    seen: Examples,
    recipe: ConceptRecipe,
    draw: torch.Generator,
    *,
    network: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    noise: Draw = standard_normal,
) -> Tensor:
    """The denoising loss on some pictures or clips, at noise levels and with noise from `draw`.

    network: (x_t, t, states of the captions) -> prediction; the UNet unless given. noise: how it is drawn.
    """
    device = execution_device(model.unet)
    x0 = seen.latents.to(device)
    t = stratified_timesteps(len(x0), model.schedule.num_timesteps, draw, bias=recipe.noise_bias).to(device)
    eps = noise(x0.shape, draw).to(x0)
    ids = model.text.token_ids(seen.captions).to(device)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        states = model.text.text_encoder(ids).last_hidden_state
        return network(x_t, t, states) if network else model.unet(x_t, t, encoder_hidden_states=states).sample

    return denoising_loss(
        predict, model.schedule, x0, eps, t,
        prediction_type=model.prediction_type, gamma=recipe.min_snr_gamma, precision=recipe.precision,
    )  # fmt: skip


def learner(
    model: ImageModel,
    recipe: ConceptRecipe,
    examples: Examples,
    targets: Targets | None = None,
    loss_of: LossOf = loss_on,
) -> Learner:
    """What a recipe trains, put into `model`. targets: what a LoRA changes beside the text encoder; the UNet unless
    given. loss_of: by which words are tried.

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
        def loss_with(word: str) -> float:
            said = Examples(tried.latents, [caption.replace(new, word) for caption in tried.captions])
            return float(loss_of(model, said, recipe, generator(recipe.seed, 5)))

        vectors = words.first_vectors(text, recipe.starts_as, count, recipe.seed, loss_with)
        text, rows = words.learn_word(text, new, vectors)
    networks: dict[str, nn.Module] = {}
    layers = nn.ParameterList()
    if isinstance(recipe, LoraTrainRecipe):
        targets = targets or {low_rank.UNET: (model.unet, low_rank.LAYERS[recipe.layers])}
        with seeded(recipe.seed):
            for part, (network, names) in targets.items():
                networks[part] = network
                layers.extend(low_rank.add_low_rank(network, recipe.rank, names))
            if recipe.text_rank:
                networks[low_rank.TEXT] = text.text_encoder
                layers.extend(low_rank.add_low_rank(text.text_encoder, recipe.text_rank, low_rank.OF_TEXT))
    word = None if new is None or rows is None else (new, rows)
    return Learner(replace(model, text=text), networks, layers, word)


def new_word(model: ImageModel, recipe: ConceptRecipe) -> str | None:
    """The word to learn; None where low-rank layers alone will do, since the model can read all of the concept."""
    if isinstance(recipe, TextualInversionRecipe):
        return recipe.concept
    unknown = [] if recipe.concept is None else model.text.unknown_words(recipe.concept)
    if len(unknown) > 1:
        raise InputError("concept", expected="one word that the model does not know", got=" ".join(unknown))
    return unknown[0] if unknown else None


def train_concept(
    learned: Learner,
    recipe: ConceptRecipe,
    examples: Examples,
    prior: Examples | None = None,
    *,
    loss_of: LossOf = loss_on,
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
            loss = loss_of(model, seen.without_some_captions(recipe.caption_dropout, draw), recipe, draw)
            if prior is None or not isinstance(recipe, DreamboothTrainRecipe):
                return loss, {}
            kept = loss_of(model, prior.draw(recipe.batch_size, number, recipe.seed, 2), recipe, draw)
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
