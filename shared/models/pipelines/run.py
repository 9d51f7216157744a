"""Runs a pipeline on a recipe: a state after each of its steps, at last with the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.hooks import HookRegistry
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from shared.artifacts.media import read_image
from shared.artifacts.pixels import fitted
from shared.diffusion.schedulers import named_scheduler
from shared.errors import InputError, KinoformError
from shared.models.pipelines.keys import call_values, check_keys, completed, names_of, told
from shared.models.pipelines.load import DistilledPipeline, PipelineModel
from shared.models.pipelines.sizes import check_sizes, own_size
from shared.models.pipelines.stepping import Tell, stepped
from shared.rng import generator

CALLBACKS = ("callback_on_step_end", "prior_callback_on_step_end")
PACKAGES = "It may want a package that is not there; those of many classes: pip install 'kinoform[pipelines]'"
OUTPUTS = ("frames", "images", "videos")


@dataclass(frozen=True)
class PipelineState:
    """`step` of `total` are done. values: red, green and blue in [0, 1], with the last state; None before."""

    step: int
    total: int
    values: Float[np.ndarray, "t h w 3"] | None = None
    latents: ClassVar[None] = None  # those of a pipeline are its own affair

    @property
    def made(self) -> UInt8[np.ndarray, "t h w 3"]:
        """The values in eight bits. KinoformError before the last state."""
        if self.values is None:
            raise KinoformError(f"step {self.step} of {self.total}", expected="the last", got="no frames yet")
        return (self.values * 255).round().astype(np.uint8)


def advice(model: PipelineModel, recipe: Any) -> list[str]:
    """What to say of a recipe before the work, a line each. Raises InputError as `run_pipeline` does before it."""
    if isinstance(model, DistilledPipeline):
        return []
    check_keys(model.class_name, model.takes, recipe)
    check_sizes(model, recipe)
    if recipe.scheduler is not None:
        named_scheduler(recipe.scheduler, own_scheduler(model))
    return told(model.class_name, model.takes)


def run_pipeline(
    model: PipelineModel, recipe: Any, device: str | torch.device | None = None
) -> Iterator[PipelineState]:
    """One picture, as one frame, or one clip; yields after every step of the pipeline, the last time with values.

    What comes out is what the class itself makes of the same values, with a CPU generator of the recipe's seed. What
    the recipe does not set is the class's own (`completed`).
    device: where to compute; where the model is, unless given. Closing the generator stops the pipeline before its next
    step. Raises InputError for a key that the class does not take, a size or number of frames that it cannot make, with
    the nearest, and for what it refuses itself; KinoformError where it fails.
    """
    recipe = completed(model.takes, recipe)
    check_keys(model.class_name, model.takes, recipe)
    check_sizes(model, recipe)
    values = {**call_values(model.takes, recipe), **_pictures(model, recipe)}
    if "output_type" in model.takes:
        values["output_type"] = "np"
    values["generator"] = generator(recipe.seed)

    def call(tell: Tell) -> Any:
        with _told(model, tell) as callbacks:
            return model.pipeline(**values, **callbacks)

    step, total = 0, 1
    with _placed(model, recipe, model.pipeline.device if device is None else device):
        steps = stepped(call)
        while True:
            try:
                step, total = next(steps)
            except StopIteration as ended:
                output = ended.value
                break
            except KinoformError:
                raise
            except Exception as error:
                raise _explained(model, error) from error
            try:
                yield PipelineState(step, total)
            except GeneratorExit:
                steps.close()
                raise
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        raise KinoformError(
            f"what the {model.class_name} made", expected="what its safety checker passes", got="another"
        )
    made = frames_of(output, clip=model.makes == "clip")
    _check_made(model, recipe, made)
    yield PipelineState(total, total, made)


def frames_of(output: Any, *, clip: bool) -> Float[np.ndarray, "t h w 3"]:
    """The frames of the first sample of what a pipeline returns, in [0, 1]: arrays, tensors or Pillow images."""
    found = next((getattr(output, name) for name in OUTPUTS if getattr(output, name, None) is not None), output)
    frames = _as_array(found)
    if frames.ndim == 5 or (frames.ndim == 4 and not clip):
        frames = frames[0]
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise KinoformError("what the pipeline made", expected="colour pictures", got=f"an array of {frames.shape}")
    return frames


def _as_array(found: Any) -> np.ndarray:
    if isinstance(found, Tensor):  # channels before rows
        found = found.detach().float().cpu().movedim(-3, -1).numpy()
    if isinstance(found, Image.Image):
        found = np.asarray(found.convert("RGB"))
    if isinstance(found, (list, tuple)):
        found = np.stack([_as_array(part) for part in found])
    return found.astype(np.float32) / 255 if found.dtype == np.uint8 else found.astype(np.float32)


def _pictures(model: PipelineModel, recipe: Any) -> dict[str, Image.Image]:
    """The pictures that a recipe names: their middle, in the shape of the clip where that is known."""
    size = recipe.width, recipe.height
    wanted = size if None not in size else own_size(model)
    found = {}
    for key in ("image", "last", "mask"):
        file = getattr(recipe, key, None)
        if file is not None and key in names_of(model.takes):
            picture = read_image(file)
            shown = picture if wanted is None else fitted(picture, *wanted)
            found[names_of(model.takes)[key]] = Image.fromarray(shown)
    return found


@contextmanager
def _told(model: PipelineModel, tell: Tell) -> Iterator[dict[str, Any]]:
    """Has a pipeline tell of its steps: the arguments of its call that do so, or else its progress bars."""
    names = [name for name in CALLBACKS if name in model.takes]
    if names:

        def callback(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            total = getattr(pipeline, "_num_timesteps", None) or len(pipeline.scheduler.timesteps)
            tell(min(step + 1, total), total)
            return values

        yield dict.fromkeys(names, callback)
        return
    with ExitStack() as stack:
        for pipeline in _with_inner(model.pipeline):
            own = vars(pipeline).get("progress_bar")
            pipeline.progress_bar = lambda iterable=None, total=None: _Bar(iterable, total, tell)
            stack.callback(_put_back, pipeline, own)
        yield {}


def _put_back(pipeline: Any, own: Any) -> None:
    if own is None:
        del pipeline.progress_bar
    else:
        pipeline.progress_bar = own


def _with_inner(pipeline: DiffusionPipeline) -> list[DiffusionPipeline]:
    """A pipeline and those that it is made of."""
    return [pipeline, *(part for part in vars(pipeline).values() if isinstance(part, DiffusionPipeline))]


class _Bar:
    """Stands in for a pipeline's progress bar."""

    def __init__(self, iterable: Iterable[Any] | None, total: int | None, tell: Callable[[int, int], None]) -> None:
        self._items = list(iterable) if iterable is not None else []
        self._total = total or len(self._items) or 1
        self._done = 0
        self._tell = tell

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: int = 1) -> None:
        self._done = min(self._done + count, self._total)
        self._tell(self._done, self._total)

    def set_postfix(self, *_: object, **__: object) -> None:
        return None


@contextmanager
def _placed(model: PipelineModel, recipe: Any, device: str | torch.device) -> Iterator[None]:
    """Inside, weights wait, latents are decoded and steps are taken as the recipe says, by the pipeline's own means.

    Raises InputError for what the device or the class cannot do.
    """
    pipeline = model.pipeline
    recipe.check_device(torch.device(device).type)
    with ExitStack() as stack:
        if recipe.scheduler is not None:
            own = own_scheduler(model)
            pipeline.register_modules(scheduler=named_scheduler(recipe.scheduler, own))
            stack.callback(pipeline.register_modules, scheduler=own)
        if recipe.offload == "model":
            pipeline.enable_model_cpu_offload(device=torch.device(device))
            stack.callback(pipeline.to, "cpu")
            stack.callback(pipeline.remove_all_hooks)
        elif recipe.offload == "group":
            pipeline.enable_group_offload(torch.device(device), offload_type="leaf_level")
            for network in model.networks.values():
                registry = HookRegistry.check_if_exists_or_initialize(network)
                stack.callback(registry.remove_hook, "group_offloading", recurse=True)
        if recipe.decode in ("sliced", "tiled"):
            what = {"sliced": "slicing", "tiled": "tiling"}[recipe.decode]
            vae = getattr(pipeline, "vae", None)
            if not hasattr(vae, f"enable_{what}"):
                raise InputError(f"decode with a {model.class_name}", expected="auto or whole", got=recipe.decode)
            getattr(vae, f"enable_{what}")()
            stack.callback(getattr(vae, f"disable_{what}"))
        yield


def own_scheduler(model: PipelineModel) -> SchedulerMixin:
    """The one that a pipeline samples with. Raises InputError for a class that has none of that name."""
    scheduler = getattr(model.pipeline, "scheduler", None)
    if scheduler is None:
        raise InputError(f"scheduler with a {model.class_name}", expected="none", got="one, which it has no place for")
    return scheduler


def _check_made(model: PipelineModel, recipe: Any, made: Float[np.ndarray, "t h w 3"]) -> None:
    """Raises KinoformError where what came out is not what was asked for, or no picture at all."""
    if not np.isfinite(made).all():
        raise KinoformError(
            f"what the {model.class_name} made", expected="numbers", got="NaN", hint="Try --precision fp32"
        )
    frames, height, width, _ = made.shape
    for key, got in (("width", width), ("height", height), ("frames", frames)):
        wanted = getattr(recipe, key, None)
        if wanted is not None and key in names_of(model.takes) and wanted != got:
            raise KinoformError(
                f"{key} {wanted} with a {model.class_name}", expected=f"one that it makes, such as {got}"
            )


def _explained(model: PipelineModel, error: Exception) -> KinoformError:
    """An error of the libraries below in one line: what they refuse, and where they fail."""
    text = str(error).strip()
    line = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    if isinstance(error, ValueError):
        return InputError(f"{model.class_name} refuses", got=line)
    missing = isinstance(error, (ImportError, NameError))
    return KinoformError(f"{model.class_name} failed", got=line, hint=PACKAGES if missing else "")
