"""Which sizes and numbers of frames a pipeline makes, found from its parts and by asking its own `check_inputs`.

A class rounds, resizes or fails where it is asked for others, some after minutes. Here they are refused at once, with
the nearest that is right.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from shared.diffusion.schedulers import silent
from shared.errors import InputError
from shared.latents.sizes import check_multiple
from shared.models.pipelines.keys import names_of
from shared.models.pipelines.load import PipelineModel

SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor", "vae_scale_factor")
TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
PROBED, MULTIPLES = 2048, (1, 2, 4, 8, 16, 32, 64, 128)
# Networks, and blocks of them, that go up by twice the size alone: every level must come out even on the way down.
STRICT_UNETS = ("UNetSpatioTemporalConditionModel", "Kandinsky3UNet")
STRICT_BLOCKS = ("ResnetUpsample", "SimpleCrossAttn")


def check_sizes(model: PipelineModel, recipe: Any) -> None:
    """Raises InputError, with the nearest right one, for a width, height or number of frames that it cannot make."""
    multiple = size_multiple(model)
    for key in ("width", "height"):
        if getattr(recipe, key, None) is not None:
            check_multiple(key, getattr(recipe, key), multiple)
    frames = getattr(recipe, "frames", None)
    if frames is not None and model.makes == "clip":
        check_frames(model, frames)


def size_multiple(model: PipelineModel) -> int:
    """Pixels that divide every side: those of a patch of latents, and what the class itself insists on."""
    pipeline = model.pipeline
    if hasattr(pipeline, "movq"):  # it rounds latents up to whole ones of its factor
        return _movq_factor(pipeline) ** 2
    scale = next((getattr(pipeline, name) for name in SPATIAL if isinstance(getattr(pipeline, name, None), int)), 1)
    return math.lcm(scale * _patch(pipeline), _probed(model))


def check_frames(model: PipelineModel, frames: int) -> None:
    """Raises InputError, with the nearest right one, for a number of frames that it cannot make."""
    exact, most = _exact_frames(model), _most_frames(model)
    if exact is not None and frames != exact:
        raise InputError("frames", expected=f"{exact}, the only number that a {model.class_name} makes", got=frames)
    if most is not None and frames > most:
        raise InputError("frames", expected=f"at most {most}, which its motion layers know", got=frames)
    step, first = frame_steps(model)
    least = first or step
    if (frames - first) % step or frames < least:
        below = max((frames - first) // step * step + first, least)
        nearest = f"{below} or {below + step}" if below < frames else f"{below}"
        rule = f"{step}n + 1" if first else f"{step}n"
        raise InputError("frames", expected=f"{rule}, such as {nearest}", got=frames)


def frame_steps(model: PipelineModel) -> tuple[int, int]:
    """(step, first): numbers of frames are first + n step. Latents in time stand for `step` frames each, the first of
    them for one alone, unless the class's own number says that it does not.
    """
    pipeline = model.pipeline
    step = next((getattr(pipeline, name) for name in TEMPORAL if isinstance(getattr(pipeline, name, None), int)), 1)
    own = model.takes[names_of(model.takes)["frames"]].default or _config(pipeline, "transformer").get("sample_frames")
    return step, 0 if isinstance(own, int) and step > 1 and own % step != 1 else 1


def own_size(model: PipelineModel) -> tuple[int, int] | None:
    """Width and height where none are asked for, where its signature or its parts say so."""
    takes, pipeline = model.takes, model.pipeline
    if "width" not in takes:
        return None
    sides = [takes[name].default for name in ("width", "height")]
    if all(isinstance(side, int) for side in sides):
        return sides[0], sides[1]
    scale = next((getattr(pipeline, name) for name in SPATIAL if isinstance(getattr(pipeline, name, None), int)), 1)
    config = _config(pipeline, "unet", "transformer")
    size = config.get("sample_size")
    width, height = config.get("sample_width", size), config.get("sample_height", size)
    if isinstance(size, (list, tuple)):
        height, width = size
    return (width * scale, height * scale) if isinstance(width, int) and isinstance(height, int) else None


def _movq_factor(pipeline: Any) -> int:
    return 2 ** (len(pipeline.movq.config.block_out_channels) - 1)


def _patch(pipeline: Any) -> int:
    """Latents along a side of what the network sees as one."""
    unet = _config(pipeline, "unet")
    strict = any(block.startswith(STRICT_BLOCKS) for block in unet.get("up_block_types") or ())
    if strict or type(getattr(pipeline, "unet", None)).__name__ in STRICT_UNETS:
        return 2 ** (len(unet["block_out_channels"]) - 1)
    pack = getattr(pipeline, "_pack_latents", None)
    if pack is not None and "patch_size" not in inspect.signature(pack).parameters:
        return 2
    size = _config(pipeline, "transformer").get("patch_size") or 1
    sides = size if isinstance(size, (list, tuple)) else (size,)
    return int(sides[-1]) if isinstance(sides[-1], int) else 1


def _probed(model: PipelineModel) -> int:
    """The least power of two that the class's own check takes; 1 where it cannot be asked."""
    check = getattr(model.pipeline, "check_inputs", None)
    if check is None or "height" not in inspect.signature(check).parameters:
        return 1
    with silent():  # some only warn, and round
        return next((side for side in MULTIPLES if _accepts(model, check, PROBED + side)), 1)


def _accepts(model: PipelineModel, check: Any, side: int) -> bool:
    given = {"prompt": "a", "height": side, "width": side, "image": Image.new("RGB", (8, 8)), "callback_steps": 1}
    values = {}
    for name, parameter in inspect.signature(check).parameters.items():
        default = model.takes[name].default if name in model.takes else inspect.Parameter.empty
        default = None if default is inspect.Parameter.empty else default
        if name in given:
            values[name] = given[name]
        elif parameter.default is inspect.Parameter.empty:
            values[name] = default
    try:
        check(**values)
    except Exception:  # whatever it stumbles over, it takes no such side
        return False
    return True


def _exact_frames(model: PipelineModel) -> int | None:
    """The only number of frames of a transformer with a place for each."""
    frames: int | None = _config(model.pipeline, "transformer").get("video_length")
    return frames


def _most_frames(model: PipelineModel) -> int | None:
    """The most that motion layers have places for."""
    found = [_config(model.pipeline, name).get("motion_max_seq_length") for name in ("motion_adapter", "unet")]
    return min((most for most in found if most is not None), default=None)


def _config(pipeline: Any, *names: str) -> Mapping[str, Any]:
    """The configuration of the first of these parts that is there; empty for none."""
    part = next((part for name in names if (part := getattr(pipeline, name, None)) is not None), None)
    return {} if part is None else part.config
