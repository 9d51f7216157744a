"""How the judge learns: renders of the world, roughened in ways that do not change what they show, and two short loops.

The judge sees every composition, held-out ones included: its task is to name what it is shown, not to imagine it. Its
seed is no other's, so none of its renders is in anybody's training data. Everything is drawn from SEED and an index.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.truth.judge_networks import CLIP_SIZE, MotionNetwork, PictureNetwork
from shared.training.half import autocast
from shared.training.loop import TrainState, learning_rate
from world.dataset import draw_composition, draw_samples
from world.prompt import COLOUR_NAMES, MOTIONS, OBJECT_NAMES, RELATIONS, Composition
from world.render import render
from world.scene import Frame, random_clip

SEED = 7_001
UNKNOWN = -100  # no answer is asked for
STILLS_A_JOB, CLIPS_A_JOB, FRAMES_OF_A_CLIP = 128, 16, 3
CLIP_AZIMUTHS = (-60.0, 60.0)
# Seen backwards or in a mirror, these motions have another name; turning ones are left as they are.
MIRRORED = {"left": "right", "right": "left"}
REVERSED = {**MIRRORED, "up": "down", "down": "up", "growing": "shrinking", "shrinking": "growing"}
TURNING = ("spinning", "orbit")
PAIR_NEXT_TO = 1 + RELATIONS.index("next to")


@dataclass(frozen=True)
class Budget:
    """How much to render and to train; the defaults take about 10 minutes on 2 cores."""

    stills: int = 16_000
    frame_clips: int = 1_600
    clips: int = 1_600
    picture_steps: int = 2_200
    motion_steps: int = 700
    batch: int = 128


def labels(compositions: list[Composition]) -> Int[Tensor, "n 5"]:
    """The right answers in the order of HEADS; UNKNOWN for the second object of single ones."""
    rows = []
    for c in compositions:
        row = [OBJECT_NAMES.index(c.obj), COLOUR_NAMES.index(c.colour), 0, UNKNOWN, UNKNOWN]
        if c.relation and c.other and c.other_colour:
            row[2:] = [
                1 + RELATIONS.index(c.relation),
                OBJECT_NAMES.index(c.other),
                COLOUR_NAMES.index(c.other_colour),
            ]
        rows.append(row)
    return torch.tensor(rows)


def render_stills(first: int) -> tuple[UInt8[np.ndarray, "n h w 3"], list[Composition]]:
    drawn = list(draw_samples(STILLS_A_JOB, kind="images", seed=SEED, split="all", first=first))
    return np.stack([s.pixels[0] for s in drawn]), [s.composition for s in drawn]


def clips_from(first: int, stream: int) -> Iterator[tuple[Composition, list[Frame], np.random.Generator]]:
    """A job's clips, from the front and both sides: a judge knows what a model of this world need not make."""
    for index in range(first, first + CLIPS_A_JOB):
        rng = np.random.default_rng([SEED, stream, index])
        c = draw_composition(rng, kind="clips", split="all")
        yield c, random_clip(c, rng, azimuths=CLIP_AZIMUTHS), rng


def render_frames(first: int) -> tuple[UInt8[np.ndarray, "n h w 3"], list[Composition]]:
    """A few frames each of clips: other places and sizes than those of stills."""
    frames: list[Frame] = []
    compositions: list[Composition] = []
    for c, clip, rng in clips_from(first, 2):
        frames += [clip[i] for i in rng.choice(len(clip), FRAMES_OF_A_CLIP, replace=False)]
        compositions += repeat(c, FRAMES_OF_A_CLIP)
    return render(frames).pixels.numpy(), compositions


def render_clips(first: int) -> tuple[UInt8[np.ndarray, "n t h w 3"], list[Composition]]:
    drawn = [(c, render(clip, CLIP_SIZE).pixels.numpy()) for c, clip, _ in clips_from(first, 3)]
    return np.stack([pixels for _, pixels in drawn]), [c for c, _ in drawn]


Job = Callable[[int], tuple[np.ndarray, list[Composition]]]


def gather(pool: Executor, job: Job, count: int, size: int) -> Iterator[tuple[Tensor, list[Composition]]]:
    """The results of all jobs of `size` samples that make up `count`, in order."""
    for pixels, compositions in pool.map(job, range(0, count, size)):
        yield torch.from_numpy(pixels), compositions


def workers(count: int) -> ProcessPoolExecutor:
    """Processes with one torch thread each: for many small tensors, faster than threads."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))


def _uniform(low: float, high: float, count: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    return low + (high - low) * torch.rand(count, generator=generator)


def roughen(
    pixels: Float[Tensor, "b 3 h w"], answers: Int[Tensor, "b 5"], generator: torch.Generator
) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b 5"]]:
    """Pictures in [0, 1] mirrored, moved, resized, bent, blurred, noisy, lighter or darker; and their answers.

    A mirror swaps first and second of things that are next to each other, and changes no other answer.
    """
    count, size = len(pixels), pixels.shape[-1]
    mirror = torch.rand(count, generator=generator) < 0.5
    swap = mirror & (answers[:, 2] == PAIR_NEXT_TO)
    answers = torch.where(swap[:, None], answers[:, [3, 4, 2, 0, 1]], answers)
    scale = _uniform(0.62, 1.12, count, generator)
    angle = _uniform(-0.1, 0.1, count, generator)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    shift = _uniform(-0.15, 0.15, 2 * count, generator).view(count, 2)
    sign = torch.where(mirror, -1.0, 1.0)
    rows = [torch.stack([sign * cos, -sin, shift[:, 0]], -1), torch.stack([sign * sin, cos, shift[:, 1]], -1)]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 3, size, size], align_corners=False)
    bend = torch.randn(count, 2, 5, 5, generator=generator) * _uniform(0, 0.03, count, generator).view(-1, 1, 1, 1)
    grid = grid + F.interpolate(bend, (size, size), mode="bilinear").permute(0, 2, 3, 1)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return _soften(pixels, generator), answers


def _soften(pixels: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Half of the pictures pass through a smaller size; all get another brightness and some noise."""
    count, size = len(pixels), pixels.shape[-1]
    small = int(size * float(_uniform(0.4, 0.9, 1, generator)))
    soft = F.interpolate(pixels, (small, small), mode="bilinear", antialias=True)
    soft = F.interpolate(soft, (size, size), mode="bilinear")
    pixels = torch.where((torch.rand(count, generator=generator) < 0.5)[:, None, None, None], soft, pixels)
    gain, lift, noise = (
        _uniform(low, high, count, generator).view(-1, 1, 1, 1)
        for low, high in ((0.88, 1.12), (-0.04, 0.04), (0.0, 0.04))
    )
    return (gain * pixels + lift + noise * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)


def roughen_clips(
    frames: Float[Tensor, "b t 3 h w"], motions: Int[Tensor, " b"], generator: torch.Generator
) -> tuple[Float[Tensor, "b t 3 h w"], Int[Tensor, " b"]]:
    """Clips in a mirror, backwards, in other colours, softened; and their motions' names after that."""
    count = len(frames)
    names = list(MOTIONS)
    mirrored = torch.tensor([names.index(MIRRORED.get(name, name)) for name in names])
    backwards = torch.tensor([names.index(REVERSED.get(name, name)) for name in names])
    free = ~torch.isin(motions, torch.tensor([names.index(name) for name in TURNING]))
    mirror = free & (torch.rand(count, generator=generator) < 0.5)
    frames = torch.where(mirror[:, None, None, None, None], frames.flip(-1), frames)
    motions = torch.where(mirror, mirrored[motions], motions)
    back = free & (torch.rand(count, generator=generator) < 0.5)
    frames = torch.where(back[:, None, None, None, None], frames.flip(1), frames)
    motions = torch.where(back, backwards[motions], motions)
    channels = torch.rand(count, 3, generator=generator).argsort(dim=1)
    frames = frames[torch.arange(count)[:, None], :, channels].movedim(1, 2)
    x, y = torch.randint(-2, 3, (2,), generator=generator).tolist()
    moved = F.pad(frames.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    moved = moved[..., 2 + y : 2 + y + frames.shape[-2], 2 + x : 2 + x + frames.shape[-1]]
    softened = _soften(moved.reshape(count, -1, *frames.shape[-2:]), generator)
    return softened.view(frames.shape), motions


def picture_loss(network: PictureNetwork, pixels: Tensor, answers: Int[Tensor, "b 5"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the questions that have an answer, the first object's twice: it is the hardest."""
    with autocast("auto", "cpu"):  # the network alone: places of pixels need all their digits
        logits = network(pixels)
    total = pixels.new_zeros(())
    for weight, (name, wanted) in zip((2.0, 1.0, 0.5, 2.0, 1.0), zip(logits, answers.T, strict=True), strict=True):
        total = total + weight * F.cross_entropy(logits[name].float(), wanted, ignore_index=UNKNOWN, reduction="sum")
    return total / len(pixels)


def fit(
    network: nn.Module, loss_at: Callable[[torch.Generator], Tensor], steps: int, peak: float, *, seed: int
) -> Iterator[TrainState]:
    """AdamW with a short warm-up and a long decay; `loss_at` draws a batch from its generator and judges it."""
    started = time.monotonic()
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.02)
    for step in range(steps):
        lr = learning_rate(step, steps, peak, warmup=min(50, steps), decay_from=0.1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = loss_at(torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        yield TrainState(step + 1, steps, float(loss.detach()), lr, time.monotonic() - started)
    network.eval()


def train_pictures(
    network: PictureNetwork, pixels: UInt8[Tensor, "n h w 3"], answers: Int[Tensor, "n 5"], budget: Budget
) -> Iterator[TrainState]:
    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (budget.batch,), generator=generator)
        batch = pixels[chosen].movedim(-1, 1).float() / 255
        batch, wanted = roughen(batch, answers[chosen], generator)
        return picture_loss(network, batch.contiguous(memory_format=torch.channels_last), wanted)

    return fit(network, loss_at, budget.picture_steps, 3e-3, seed=SEED)


def train_motion(
    network: MotionNetwork, frames: UInt8[Tensor, "n t h w 3"], motions: Int[Tensor, " n"], budget: Budget
) -> Iterator[TrainState]:
    def loss_at(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(frames), (budget.batch // 2,), generator=generator)
        batch, wanted = roughen_clips(frames[chosen].movedim(-1, 2).float() / 255, motions[chosen], generator)
        with autocast("auto", "cpu"):
            logits = network(batch)
        return F.cross_entropy(logits.float(), wanted)

    return fit(network, loss_at, budget.motion_steps, 2e-3, seed=SEED + 1)


def train(budget: Budget, processes: int) -> Iterator[tuple[str, int, int, float, nn.Module | None]]:
    """Renders, then trains both networks. Yields (stage, done, total, loss or nan, the network once it is done)."""
    torch.manual_seed(SEED)
    stacks: dict[str, tuple[Tensor, list[Composition]]] = {}
    jobs: dict[str, tuple[Job, int, int]] = {
        "stills": (render_stills, budget.stills, STILLS_A_JOB),
        "frames": (render_frames, budget.frame_clips, CLIPS_A_JOB),
        "clips": (render_clips, budget.clips, CLIPS_A_JOB),
    }
    with workers(processes) as pool:
        for name, (job, count, size) in jobs.items():
            parts: list[Tensor] = []
            compositions: list[Composition] = []
            for pixels, found in gather(pool, job, count, size):
                parts.append(pixels)
                compositions += found
                yield f"render {name}", len(parts), math.ceil(count / size), math.nan, None
            stacks[name] = torch.cat(parts), compositions
    pixels = torch.cat([stacks["stills"][0], stacks["frames"][0]])
    answers = labels(stacks["stills"][1] + stacks["frames"][1])
    picture = PictureNetwork()
    for state in train_pictures(picture, pixels, answers, budget):
        last = picture if state.step == state.total else None
        yield "train pictures", state.step, state.total, state.loss, last
    clips, compositions = stacks["clips"]
    motions = torch.tensor([list(MOTIONS).index(c.motion or "still") for c in compositions])
    motion = MotionNetwork()
    for state in train_motion(motion, clips, motions, budget):
        yield "train motion", state.step, state.total, state.loss, motion if state.step == state.total else None
