"""`kinoform train STAGE | all`: a training stage over a data folder, or all that make a model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.commands import train_all
from lab.flags import Parser, add_command, add_device_flag, add_recipe_flags, parse_recipe
from lab.outputs import check_folder, existing_folder, whole_number
from lab.show.console import Console
from lab.training.data_look import captions_of, look, warn_of_length, warn_of_words
from shared.training.personalise.recipe import (
    ConceptRecipe,
    DreamboothTrainRecipe,
    LoraTrainRecipe,
    TextualInversionRecipe,
)
from shared.training.recipe import AutoencoderTrainRecipe, ImageTrainRecipe, ScorerTrainRecipe, StageRecipe
from video.recipe import VideoLoraTrainRecipe, VideoTrainRecipe

if TYPE_CHECKING:
    from shared.training.loop import TrainState


LINE_SECONDS = 10.0
OF_DATA = "folder with captions.jsonl, or folders of such"
OF_PICTURES = "folder of pictures (video-lora: of clips); those without a caption show the concept"
RESUME = "the same command with --resume goes on from the last checkpoint"

# What a stage needs to be told, and what it leaves where.
STAGES: dict[str, tuple[type[StageRecipe], str]] = {
    "autoencoder": (AutoencoderTrainRecipe, "pictures to latents and back, into OUT/vae"),
    "image": (ImageTrainRecipe, "the image model and its text encoder, on the latents of OUT/vae"),
    "scorer": (ScorerTrainRecipe, "an image encoder that agrees with the text encoder of OUT"),
    "video": (VideoTrainRecipe, "temporal layers on the image model of OUT"),
    "lora": (LoraTrainRecipe, "a LoRA on a few pictures of something, into a file in OUT"),
    "video-lora": (VideoLoraTrainRecipe, "a LoRA of a video model on a few clips, into a file in OUT"),
    "textual-inversion": (TextualInversionRecipe, "a word for what a few pictures show, into a file in OUT"),
    "dreambooth": (DreamboothTrainRecipe, "a LoRA on a few pictures of one of a class, which the model keeps"),
}


def add_parser(commands: Any, name: str, help: str) -> None:
    train = commands.add_parser(name, help=help, description=help)
    stages = train.add_subparsers(title="stages", metavar="STAGE", dest="stage", required=True)
    for stage, (recipe, text) in STAGES.items():
        parser: Parser = add_command(stages, stage, partial(run, stage), f"Train {text}.")
        parser.add_argument(
            "--data", metavar="DIR", required=True, help=OF_PICTURES if issubclass(recipe, ConceptRecipe) else OF_DATA
        )
        parser.add_argument("--out", metavar="DIR", required=True, help="the folder to train into")
        parser.add_argument(
            "--resume", action="store_true", default=False, help="go on from the last checkpoint in OUT"
        )
        parser.add_argument(
            "--preview-every",
            metavar="N",
            help="a look at what it makes every N steps, in OUT/previews (default never)",
        )
        add_recipe_flags(parser, recipe, kind="train", preset=stage)
        add_device_flag(parser)
    train_all.add_parser(stages)


def run(stage: str, args: argparse.Namespace) -> None:
    recipe = parse_recipe(STAGES[stage][0], args, kind="train", preset=stage)
    data = existing_folder("--data", args.data)
    out = check_folder("--out", args.out)
    preview_every = whole_number("--preview-every", getattr(args, "preview_every", "0"), 0, 10_000_000)
    console = Console(as_json=args.json)
    from lab.training.stages import LOG, logged, looked_at
    from shared.training import ranks

    with _joined(args.device) as where:
        states = _loop(stage)(recipe, data, out, args.resume, where)
        if not ranks.rank():
            states = logged(states, stage, out / LOG)
        states = looked_at(states, stage, data, out, preview_every, recipe)
        states = _with_notes(states, recipe, data, out, console)
        with console.if_interrupted(RESUME):
            state = console.follow(f"train {stage}", states, every=LINE_SECONDS)
        if state.done_before:
            console.say("already done")
        console.result(
            [f"trained {stage}: {state.step} steps, loss {state.loss:.4f}, {state.seconds:.0f} s. It is in {out}"],
            outputs=[out], seed=recipe.seed, steps=state.step, loss=state.loss, metrics=state.metrics,
        )  # fmt: skip


@contextmanager
def _joined(name: str) -> Iterator[str]:
    """The device to train on; one of its own for each of several processes, of which the first alone speaks."""
    from shared.training import ranks

    where = device.pick(name)
    with ExitStack() as stack:
        if ranks.started():
            where = ranks.join(where)
        if ranks.rank():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield where


def _with_notes(
    states: Iterator[TrainState], recipe: StageRecipe, data: Path, out: Path, console: Console
) -> Iterator[TrainState]:
    """Says what the data is, once the first step has shown that the training can begin."""
    from shared.models.image_model import load_text
    from shared.models.prompts.vocabulary import LONGEST
    from shared.models.source import resolve_model

    first = next(states)
    captions = captions_of(look(console, data, recipe.caption))
    if isinstance(recipe, ImageTrainRecipe):
        warn_of_length(console, captions, recipe.text_tokens or LONGEST)
    elif isinstance(recipe, (ScorerTrainRecipe, VideoTrainRecipe)):  # by now there is a model in `out`
        warn_of_words(console, captions, load_text(resolve_model(out)))
    elif isinstance(recipe, ConceptRecipe) and first.model is not None:
        model: Any = first.model()
        warn_of_words(console, captions, getattr(model, "image", model).text)
    yield first
    yield from states


def _loop(stage: str) -> Callable[..., Iterator[TrainState]]:
    """The stage's training loop; imported here because it brings torch."""
    if stage == "autoencoder":
        from shared.training import autoencoder

        return autoencoder.train
    if stage == "image":
        from shared.training import image

        return image.train
    if stage == "scorer":
        from shared.training import clip_scorer

        return clip_scorer.train
    if stage == "video":
        from video.training import stage as video

        return video.train
    if stage == "video-lora":
        from video.training import lora

        return lora.train
    from shared.training.personalise import stage as personalise

    return personalise.train
