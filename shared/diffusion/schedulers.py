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
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from diffusers import SchedulerMixin
from diffusers.utils import logging
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
SHIFT = "snr_shift_scale"  # in the configuration of those that shift a noise schedule after making it
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

    Raises InputError, with the nearest that can be used, for one that diffusers has not and one that does not suit the
    model: for rectified flow with a model of diffusion, the other way round, or with a noise schedule of its own.
    """
    if name is None:
        return own
    found = scheduler_names().get(_plain(name))
    if found is None:
        raise InputError("scheduler", **_nearest(name, own), got=name)
    scheduler = _configured(found, own)
    if isinstance(scheduler, str):
        raise InputError(f"scheduler {name}", **_nearest(name, own), got=scheduler)
    return scheduler


@contextmanager
def silent() -> Iterator[None]:
    """Inside, diffusers says nothing but errors."""
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(said)


def _nearest(name: str, own: SchedulerMixin) -> dict[str, str]:
    """What to expect instead of a scheduler: those that suit the model, and the nearest of them."""
    usable = {plain: _kebab(kind.__name__) for plain, kind in scheduler_names().items()
              if not isinstance(_configured(kind, own), str)}  # fmt: skip
    near = difflib.get_close_matches(_plain(name), usable, n=1, cutoff=0.5)
    hint = f"Did you mean {usable[near[0]]}?" if near else ""
    return {"expected": ", ".join(sorted(usable.values())) or "none: this model has its own alone", "hint": hint}


def _configured(kind: type[SchedulerMixin], own: SchedulerMixin) -> SchedulerMixin | str:
    """A scheduler of this kind with the configuration of a model's own; why not, where it cannot sample from it."""
    try:
        with silent():  # keys of the one are not the other's
            scheduler = kind.from_config(own.config)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        return str(error).strip().splitlines()[0]
    if kind is type(own):
        return scheduler
    shifted = [SHIFT in each.config for each in (own, scheduler)]
    if all(shifted):
        return scheduler
    if own.config.get("beta_schedule") != scheduler.config.get("beta_schedule") and not is_flow(scheduler):
        return _other_world(scheduler, is_flow(own)) or "a noise schedule of its own"
    try:
        schedule = NoiseSchedule.from_scheduler(own)
    except ModelError:
        return "another noise schedule than this model's"
    return _why_not(scheduler, schedule) or ("no shift of its noise schedule" if shifted[0] else scheduler)


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
    if other := _other_world(scheduler, schedule.is_flow):
        return other
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
    return "a noise schedule that it shifts" if SHIFT in takes else None


def _other_world(scheduler: SchedulerMixin, flow: bool) -> str | None:
    """Why not, where a model is of rectified flow and the scheduler is not, or the other way round."""
    if is_flow(scheduler) and not flow:
        return "one for rectified flow"
    takes = inspect.signature(type(scheduler)).parameters  # a configuration keeps what its class does not know
    knows = is_flow(scheduler) and ("FlowMatch" in type(scheduler).__name__ or "use_flow_sigmas" in takes)
    return "one for diffusion, with a model of rectified flow" if flow and not knows else None
