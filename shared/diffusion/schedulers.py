"""Which of diffusers' schedulers can sample from a model, and with how many steps.

Every scheduler that takes the model's own noise schedule (betas, or rectified flow) and steps from (output, timestep,
sample) can. What diffusers has for other things under the same name, or with a noise schedule of its own, is refused in
one line instead of going wrong in the middle: it would fail on a shape, or draw noise nicely.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import diffusers
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


def named_scheduler(name: str | None, own: SchedulerMixin) -> SchedulerMixin:
    """The scheduler of that name ("euler-discrete", "EulerDiscreteScheduler", "dpm solver multistep"), with the
    configuration of a model's `own`; that itself where none is named.

    Raises InputError, with the nearest name, for one that diffusers has not, and where it cannot be so configured.
    """
    if name is None:
        return own
    names = scheduler_names()
    found = names.get(_plain(name))
    if found is None:
        near = difflib.get_close_matches(_plain(name), names, n=1, cutoff=0.5)
        shown = sorted(_kebab(each.__name__) for each in names.values())
        hint = f"Did you mean {_kebab(names[near[0]].__name__)}?" if near else ""
        raise InputError("scheduler", expected=", ".join(shown), got=name, hint=hint)
    try:
        return found.from_config(own.config)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise InputError(f"scheduler {name}", expected=OTHERS, got=str(error).strip().splitlines()[0]) from error


def scheduler_names() -> dict[str, type[SchedulerMixin]]:
    """diffusers' schedulers that take the configuration of another one, by their names in lower case, no hyphens."""
    found = {}
    for name in dir(diffusers):
        if not name.endswith("Scheduler") or name.startswith("Flax"):
            continue
        scheduler = getattr(diffusers, name)
        if isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin) and hasattr(scheduler, "step"):
            takes = inspect.signature(scheduler).parameters
            if "beta_schedule" in takes or "FlowMatch" in name:
                found[_plain(name)] = scheduler
    return found


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9+]", "", name.lower()).removesuffix("scheduler")


def _kebab(name: str) -> str:
    """EulerDiscreteScheduler to euler-discrete."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name.removesuffix("Scheduler")).lower()


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
