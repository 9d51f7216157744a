"""One stage of `kinoform train all`: steps from a timing, then a log, a preview and a mark in the plan."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch.nn import functional as F

from lab.show.console import Console
from lab.show.loss_plot import loss_plot
from lab.training import previews
from lab.training.own_data import Plan, Stage, write_plan
from shared.artifacts.files import atomic_path, replaced_folder
from shared.artifacts.formats.image_file import write_image
from shared.latents.codec import Codec
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import load_image_model
from shared.models.source import resolve_model
from shared.recipe import load_preset
from shared.rng import generator
from shared.training import autoencoder, clip_scorer, image, ranks
from shared.training.data.arrays import MediaFolder, draw_pictures, load_all
from shared.training.loop import TrainState
from shared.training.recipe import AutoencoderTrainRecipe, ImageTrainRecipe, ScorerTrainRecipe, StageRecipe
from video.generate import load_video_model
from video.recipe import VideoTrainRecipe
from video.training import stage as video

Loop = Callable[..., Iterator[TrainState]]
STAGES: dict[str, tuple[type[StageRecipe], Loop]] = {
    "autoencoder": (AutoencoderTrainRecipe, autoencoder.train),
    "image": (ImageTrainRecipe, image.train),
    "video": (VideoTrainRecipe, video.train),
    "scorer": (ScorerTrainRecipe, clip_scorer.train),
}
LOG, PREVIEWS = "train-log.jsonl", "previews"
LOG_SECONDS = 10.0
GOOD_PSNR = 32.0  # decibels: above this the embedded autoencoder is kept
JUDGED = 64  # pictures that it is measured on
WORK_SHARE = 0.93  # of a stage's time: reading, timing and the preview take the rest
TIMED_STEPS, TIMED_SECONDS = 12, 20.0
LEAST_STEPS = 10


def embedded_psnr(data: Path, size: int) -> float:
    """How well the embedded autoencoder shows the pictures below `data`: mean of their PSNRs, in decibels."""
    return psnr_of(load_image_model("world").codec, data, size)


@torch.no_grad()
def psnr_of(codec: Codec, data: Path, size: int) -> float:
    """How well `codec` shows the pictures below `data`: mean of their PSNRs, in decibels."""
    folders = load_all(data, size=size)
    pixels, _ = draw_pictures(folders, JUDGED, 0.5, generator(0, 0))
    error = F.mse_loss(codec.decode(codec.encode(pixels)).clamp(-1, 1), pixels, reduction="none").mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error.clamp(min=1e-10))).mean())


def keep_autoencoder(out: Path) -> None:
    """The embedded autoencoder, for `out` to build on."""
    with replaced_folder(out / "vae") as new:
        shutil.copytree(resolve_model("world") / "vae", new, dirs_exist_ok=True)


def keep_the_better(plan: Plan, out: Path, console: Console) -> None:
    """After few steps the autoencoder that was trained may show the data worse than the one that it began as."""
    data = Path(plan.data)
    trained = psnr_of(Codec(AutoencoderTiny.from_pretrained(out / "vae").eval()), data, plan.size)
    embedded = embedded_psnr(data, plan.size)
    console.say(f"the trained autoencoder shows the data at {trained:.1f} dB, the embedded one at {embedded:.1f}")
    if trained < embedded:
        keep_autoencoder(out)
        console.say("the embedded one is kept")


def run_stage(plan: Plan, stage: Stage, out: Path, device: str, console: Console) -> TrainState:
    """Trains one stage, or goes on with it; at its end its preview is there and the plan in `out` says so."""
    started = time.perf_counter()
    data, checkpoint = Path(plan.data), out / f"{stage.part}.pt"
    loop = partial(STAGES[stage.part][1], device=device)
    if stage.steps is None:
        checkpoint.unlink(missing_ok=True)  # of an earlier stage of the same networks, killed before it cleared it
        seconds = plan.seconds_for(stage)
        each = step_seconds(loop, stage_recipe(plan, stage, 1_000_000), data, out, 0.1 * seconds)
        left = WORK_SHARE * seconds - (time.perf_counter() - started)
        stage.steps = max(LEAST_STEPS, int(left / each))
        if LEAST_STEPS * each > left:
            console.warn(
                f"{seconds / 60:.1f} minutes are too few for {stage.name}: a step takes {each:.1f} s, and it does "
                f"{LEAST_STEPS}. It will learn little; give more --minutes"
            )
        write_plan(plan, out)
    recipe = stage_recipe(plan, stage, stage.steps)
    states = loop(recipe, data, out, checkpoint.is_file())
    last = console.follow(f"train {stage.name}", logged(states, stage.name, out / LOG), every=LOG_SECONDS)
    if stage.name == "autoencoder" and plan.start == "embedded":
        keep_the_better(plan, out, console)
    with console.timed("previews"):
        preview(plan, stage, out)
        plot_losses(stage.name, out)
    stage.seconds = max(last.seconds, time.perf_counter() - started)
    write_plan(plan, out)
    with suppress(FileNotFoundError):
        checkpoint.unlink()
    return last


def stage_recipe(plan: Plan, stage: Stage, steps: int) -> Any:
    """The plan's preset, with warm-up and averaging that fit into few steps."""
    preset = f"{stage.name}-own" if plan.start == "embedded" else stage.name
    recipe = STAGES[stage.part][0].parse({**load_preset("train", preset), "steps": steps, "seed": plan.seed})
    fits = {
        "warmup_steps": max(1, min(recipe.warmup_steps, steps // 20)),
        "ema_decay": max(0.0, min(recipe.ema_decay, 1 - 10 / steps)),
    }
    if isinstance(recipe, VideoTrainRecipe):  # its clips are as large as the image model's pictures
        fits["fineness"] = plan.fineness
    else:
        fits["size"] = plan.size
    return recipe.model_copy(update=fits)


def step_seconds(loop: Loop, recipe: StageRecipe, data: Path, out: Path, most: float) -> float:
    """Seconds that a step takes, from a few that are thrown away; about `most` seconds are spent on it, if so many."""
    states = loop(recipe.model_copy(update={"checkpoint_minutes": 1e6}), data, out, False)
    times: list[float] = []
    next(states)
    began = time.perf_counter()
    while (len(times) < TIMED_STEPS and time.perf_counter() - began < min(most, TIMED_SECONDS)) or not times:
        before = time.perf_counter()
        next(states)
        times.append(time.perf_counter() - before)
    if isinstance(states, Generator):  # as all loops are: nothing goes on in the background
        states.close()
    return statistics.median(times)


def logged(states: Iterator[TrainState], name: str, log: Path) -> Iterator[TrainState]:
    """Hands states on and adds a line to `log` every `LOG_SECONDS`; those that a resumed loop does again go."""
    said = -math.inf
    first = True
    for state in states:
        if first:
            first = False
            log.parent.mkdir(parents=True, exist_ok=True)
            _forget(log, name, state.step)
        if time.perf_counter() - said >= LOG_SECONDS or state.step == state.total:
            said = time.perf_counter()
            line = {"stage": name, "step": state.step, "steps": state.total, "loss": state.loss, "lr": state.lr,
                    "seconds": round(state.seconds, 1), **state.metrics}  # fmt: skip
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        yield state


def _forget(log: Path, name: str, step: int) -> None:
    """Takes out of `log` the lines of stage `name` from `step` on, and any that was cut short."""
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        with suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if entry["stage"] != name or entry["step"] < step:
                kept.append(line + "\n")
    with atomic_path(log) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def preview(plan: Plan, stage: Stage, out: Path) -> None:
    """The sheet that shows what a stage has learned, `out/previews/STAGE.png`."""
    load: dict[str, Callable[[Path], object]] = {
        "autoencoder": lambda folder: Codec(AutoencoderTiny.from_pretrained(folder / "vae").eval()),
        "image": load_image_model,
        "video": load_video_model,
        "scorer": ClipScorer.from_folder,
    }
    folders = load_all(Path(plan.data), size=plan.size)
    previews.write(stage.part, load[stage.part](out), folders, plan.seed, out / PREVIEWS / stage.name)


def looked_at(
    states: Iterator[TrainState], stage: str, data: Path, out: Path, every: int, recipe: StageRecipe
) -> Iterator[TrainState]:
    """Hands states on; every so many steps there is a look at the model, `out/previews/STAGE-STEP.png`, and at its end
    and beside each look the plot of its losses, `out/previews/loss-STAGE.png`. Of several processes all read the data,
    and the first looks."""
    folders: list[MediaFolder] = []
    for state in states:
        last = state.step == state.total
        look = state.model if every and (state.step % every == 0 or last) else None
        if look is not None:
            model: Any = look()
            size = getattr(recipe, "size", None) or getattr(model, "image", model).default_size
            folders = folders or load_all(data, size=size, caption=recipe.caption)
            if not ranks.rank():
                previews.write(stage, model, folders, recipe.seed, out / PREVIEWS / f"{stage}-{state.step:06d}")
        if (look or last) and not ranks.rank():
            plot_losses(stage, out)
        yield state


def plot_losses(stage: str, out: Path) -> None:
    """The losses of a stage that the log holds, `out/previews/loss-STAGE.png`."""
    lines = [json.loads(line) for line in (out / LOG).read_text(encoding="utf-8").splitlines()]
    points = [(line["step"], line["loss"]) for line in lines if line["stage"] == stage]
    (out / PREVIEWS).mkdir(exist_ok=True)
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    write_image(out / PREVIEWS / f"loss-{stage}.png", loss_plot(steps, losses, f"{stage}: loss by step"))
