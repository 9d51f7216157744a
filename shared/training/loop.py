"""What every training stage needs: its optimiser and learning-rate curve, averaged weights, checkpoints, yielded state.

A stage says what the loss of its n-th batch is, and yields what `Training.run` makes of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.artifacts.files import atomic_path
from shared.errors import InputError
from shared.training import ranks
from shared.training.optimizers import Group, MuonAndAdamW, build_optimizer
from shared.training.recipe import StageRecipe

MAX_GRADIENT_NORM = 1.0
# Number of a batch -> its loss, and what else is worth knowing of it.
LossAt = Callable[[int], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class TrainState:
    """One finished optimiser step. `seconds` is the training time so far, that before a resume included.

    model: what is trained, as it is now, for a look at it; its weights are not averaged. done_before: no step was
    taken, since the run that was resumed had taken them all. It is the only state then; the loss is that of the last
    step's batch, and what the stage leaves is written once more.
    """

    step: int
    total: int
    loss: float
    lr: float
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    done_before: bool = False
    model: Callable[[], object] | None = field(default=None, compare=False)


def learning_rate(step: int, total: int, peak: float, *, warmup: int, decay_from: float = 0.5) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last `1 - decay_from` of the steps."""
    if step < warmup:
        return peak * (step + 1) / warmup
    start = decay_from * total
    return peak * (1.0 if step < start else max(0.0, (total - step) / (total - start)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What torch draws inside, such as the first weights of a network, depends on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Ema:
    """Exponential moving average of parameters, with the usual warm-up: decay = min(decay, (1 + n) / (10 + n))."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.average = [p.detach().clone().float() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, [p.detach().float() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to(self) -> None:
        """Overwrites the parameters with their averages."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for mine, theirs in zip(self.average, state["average"], strict=True):
            mine.copy_(theirs)


@dataclass
class Checkpoint:
    """What a stopped training needs to go on exactly: named parts with `state_dict`, step, clock and random state."""

    path: Path
    parts: dict[str, Any]
    every_seconds: float = 180.0
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._saved = time.monotonic()

    def elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def restore(self) -> None:
        """Raises InputError when there is no checkpoint to resume from, or one of another network."""
        if not self.path.is_file():
            raise InputError(
                "resume", expected=f"a checkpoint at {self.path}", got="none", hint="Start without --resume."
            )
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                "resume",
                expected=f"the recipe that {self.path} was made with",
                got=str(error).splitlines()[0],
                hint="Sizes of the network may not change.",
            ) from error
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["rng"])

    def save_if_due(self, step: int, *, last: bool = False) -> None:
        self.step = step
        if not last and time.monotonic() - self._saved < self.every_seconds:
            return
        self._saved = time.monotonic()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"step": step, "seconds": self.elapsed(), "rng": torch.get_rng_state()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)


class Training:
    """One stage under way: steps the optimiser, keeps the average, saves checkpoints.

    modules: what is trained, by the names that checkpoints know them under.
    checkpoint: the file to save to and, with `resume`, to go on from; None saves nothing.
    optimizer: one with parameter groups of its own; the recipe's over all parameters where there is none.
    Raises InputError when there is nothing to resume from.
    """

    def __init__(
        self,
        recipe: StageRecipe,
        modules: Mapping[str, nn.Module],
        checkpoint: Path | None,
        *,
        resume: bool = False,
        optimizer: torch.optim.Optimizer | MuonAndAdamW | None = None,
    ) -> None:
        self.recipe = recipe
        self.parameters = [p for module in modules.values() for p in module.parameters()]
        decay = recipe.weight_decay
        everything: Group = {
            "params": self.parameters, "lr": recipe.learning_rate, "weight_decay": decay, "matrices": True,
        }  # fmt: skip
        self.optimizer = optimizer or build_optimizer(recipe, [everything])
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.ema = Ema(self.parameters, recipe.ema_decay)
        self._saves = checkpoint is not None and ranks.rank() == 0
        self._checkpoint = Checkpoint(
            checkpoint or Path(),
            {**modules, "ema": self.ema, "optimizer": self.optimizer},
            every_seconds=60 * recipe.checkpoint_minutes,
        )
        if resume:
            self._checkpoint.restore()
        self._done_before = self._checkpoint.step >= recipe.steps

    def run(self, loss_at: LossAt) -> Iterator[TrainState]:
        """Takes the steps still to do, one yield each. When they are done, the modules hold the averaged weights.

        A step goes down the mean of the losses of `recipe.accumulate` batches on every rank; no two have one number.
        A run that is resumed when all are done, because it was stopped before its weights were written, say, sees its
        last batches again, of which it makes its only state without taking a step.
        """
        if self._done_before:
            with torch.no_grad():
                yield self._state(*self._losses(loss_at, self._checkpoint.step - 1))
        for step in range(self._checkpoint.step, self.recipe.steps):
            for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = learning_rate(step, self.recipe.steps, peak, warmup=self.recipe.warmup_steps)
            yield self._step(loss_at, step)
        self.ema.copy_to()

    def _step(self, loss_at: LossAt, step: int) -> TrainState:
        """One optimiser step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, metrics = self._losses(loss_at, step)
        ranks.average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.ema.update(step)
        if self._saves:
            self._checkpoint.save_if_due(step + 1, last=step + 1 == self.recipe.steps)
        self._checkpoint.step = step + 1
        return self._state(loss, metrics)

    def _losses(self, loss_at: LossAt, step: int) -> tuple[float, dict[str, float]]:
        """Loss and metrics of a step, means over this rank's batches; leaves gradients where there are to be any."""
        count = self.recipe.accumulate
        total, means = 0.0, dict[str, float]()
        for part in range(count):
            loss, metrics = loss_at((step * count + part) * ranks.count() + ranks.rank())
            if torch.is_grad_enabled():
                (loss / count).backward()
            total += float(loss.detach()) / count
            for name, value in metrics.items():
                means[name] = means.get(name, 0.0) + value / count
        return total, means

    def _state(self, loss: float, metrics: dict[str, float]) -> TrainState:
        step, rate = self._checkpoint.step, self.optimizer.param_groups[0]["lr"]
        seconds = self._checkpoint.seconds if self._done_before else self._checkpoint.elapsed()
        return TrainState(step, max(step, self.recipe.steps), loss, rate, seconds, metrics, self._done_before)
