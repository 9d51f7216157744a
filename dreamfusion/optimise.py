"""The one loop that optimises a scene, whatever it is asked to look like: a generator that yields after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dreamfusion.fields.occupancy import OccupancyGrid, occupancy_of
from dreamfusion.scene import Arrangement, Scene
from shared.errors import KinoformError

OCCUPANCY_EVERY = 10  # steps between updates of the occupancy grid


@dataclass(frozen=True)
class Judged:
    """What one step found. loss: to minimise. gradient_rms: how far off the renders are, see `DistillState`.
    pixels: the renders.
    """

    loss: Float[Tensor, ""]
    gradient_rms: float
    pixels: Float[Tensor, "views 3 h w"]


# What a step minimises: (scene, where it is not empty, share of the run done, step) -> a loss, found by rendering.
Objective = Callable[[Scene, OccupancyGrid, float, int], Judged]


@dataclass(frozen=True)
class DistillState:
    """After `step` of `total` steps.

    gradient_rms: root mean square of equation 3's gradient; while a field is fitted, of its renders' error. pixels: the
    step's renders, in [-1, 1]. scene: the live scene, which the next step changes; in the last state of a run for two
    things, both.
    """

    step: int
    total: int
    gradient_rms: float
    scene: Scene | Arrangement
    pixels: Float[Tensor, "views 3 h w"]


def optimise(
    scene: Scene,
    objective: Objective,
    *,
    steps: int,
    learning_rate: float,
    first: int = 0,
    beside: Sequence[Tensor] = (),
) -> Iterator[DistillState]:
    """Adam on `objective`, from step `first` of `steps` on.

    learning_rate: of the field. beside: what else of the objective is found at this rate.
    Raises KinoformError when the loss stops being a number.
    """
    groups = scene.field.parameter_groups(learning_rate)
    if scene.background is not None:
        groups.append({"params": list(scene.background.parameters()), "lr": learning_rate / 10})
    if beside:
        groups.append({"params": list(beside), "lr": learning_rate})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
    occupancy: OccupancyGrid | None = None
    for step in range(first, steps):
        if occupancy is None or step % OCCUPANCY_EVERY == 0:
            occupancy = occupancy_of(scene.field)
        judged = objective(scene, occupancy, step / steps, step)
        if not torch.isfinite(judged.loss):
            raise KinoformError(
                f"the scene diverged at step {step}", expected="a finite loss", got=judged.loss.item(),
                hint="Use a lower learning_rate or guidance_scale",
            )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        judged.loss.backward()
        optimizer.step()
        yield DistillState(step + 1, steps, judged.gradient_rms, scene, judged.pixels.detach())
