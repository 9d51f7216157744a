"""Which of diffusers' schedulers can sample from a model, and with how many steps.

Every scheduler that takes the model's own noise schedule (betas, or rectified flow) and steps from (output, timestep,
sample) can. What diffusers has for other things under the same name, or with a noise schedule of its own, is refused in
one line instead of going wrong in the middle: it would fail on a shape, or draw noise nicely.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from diffusers import SchedulerMixin
from jaxtyping import Shaped
from torch import Tensor

from shared.diffusion.denoiser import Prediction
from shared.diffusion.schedule import NoiseSchedule, is_flow, prediction_type_of
from shared.errors import InputError, ModelError

FORMS: Mapping[str, Callable[[Prediction], Tensor]] = {
    "epsilon": lambda prediction: prediction.eps,
    "sample": lambda prediction: prediction.x0,
    "v_prediction": lambda prediction: prediction.v,
    "flow": lambda prediction: prediction.v,
}
OTHERS = "EulerDiscreteScheduler, DDIMScheduler or another with the model's own noise schedule"
GIVEN = 3  # what `step` is given by position: output, timestep, sample


def check_sampler(scheduler: SchedulerMixin, schedule: NoiseSchedule) -> None:
    """Raises InputError for a scheduler that cannot sample from a model with the noise `schedule`."""
    why_not = _why_not(scheduler, schedule)
    if why_not:
        raise InputError(f"scheduler {type(scheduler).__name__}", expected=OTHERS, got=why_not)


def form_of(scheduler: SchedulerMixin) -> Callable[[Prediction], Tensor]:
    """Which of a prediction's forms the scheduler wants. Raises ModelError where it is none of FORMS."""
    kind = prediction_type_of(scheduler)
    if kind not in FORMS:
        raise ModelError("scheduler prediction_type", expected=", ".join(FORMS), got=kind)
    return FORMS[kind]


def set_steps(scheduler: SchedulerMixin, steps: int, device: str | torch.device) -> Shaped[Tensor, " n"]:
    """Sets `steps` denoising steps and gives the timesteps, of which schedulers of second order have more.

    Raises InputError, with the nearest number that works, where the scheduler cannot take so many.
    """
    if not _takes(scheduler, steps, device):
        near = next((n for n in _around(scheduler, steps) if _takes(copy.deepcopy(scheduler), n, "cpu")), None)
        wanted = f"{near} with {type(scheduler).__name__}" if near else f"what {type(scheduler).__name__} can take"
        raise InputError("steps", expected=wanted, got=steps)
    return scheduler.timesteps


def _takes(scheduler: Any, steps: int, device: str | torch.device) -> bool:
    if steps < 1:
        return False
    try:
        scheduler.set_timesteps(steps, device=device)
    except (ValueError, ZeroDivisionError, IndexError, RuntimeError):
        return False
    return len(scheduler.timesteps) > 0


def _around(scheduler: Any, steps: int) -> Iterator[int]:
    """Numbers of steps to try instead: the nearest first, then as many as there are timesteps."""
    for distance in range(1, 17):
        yield from (steps + distance, steps - distance)
    yield scheduler.config["num_train_timesteps"]


def _why_not(scheduler: Any, schedule: NoiseSchedule) -> str | None:
    name = type(scheduler).__name__
    takes = inspect.signature(type(scheduler).__init__).parameters
    if not (hasattr(scheduler, "step") and hasattr(scheduler, "set_timesteps")):
        return "no steps"
    if "beta_schedule" not in takes and not is_flow(scheduler):
        return "a noise schedule of its own"
    if is_flow(scheduler) != schedule.is_flow:
        return "one for rectified flow" if is_flow(scheduler) else "one for diffusion, with a model of rectified flow"
    if "Inverse" in name:
        return "one that turns pictures into noise"
    if "noise_sampler_seed" in takes:
        return "noise from no generator; DPMSolverMultistepScheduler with algorithm_type sde-dpmsolver++ is like it"
    step = list(inspect.signature(scheduler.step).parameters.values())
    more = [
        p.name for p in step[GIVEN:] if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if more or len(step) < GIVEN:
        return f"a step that wants {', '.join(more)}"
    if scheduler.config.get("timestep_type") == "continuous":
        return "continuous timesteps"
    return "a noise schedule that it shifts" if "snr_shift_scale" in takes else None
