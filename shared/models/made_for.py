"""What a model was made for, read from its configuration alone, and what to say where a recipe is far from it.

A diffusion model shows noise, or the same thing twice, at sizes that it never saw. That is no error: one may want to
see it. So it is said, before the work, with the value that is right. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.latents.sizes import check_size
from shared.models.layouts.family import SD2, SUPPORTED, family_of
from shared.models.layouts.original import scheduler_config, unet_config, vae_config
from shared.models.layouts.prediction import EPSILON, said
from shared.models.pipelines.classes import CLASS, SEES
from shared.models.weight_files import read_entries

MOST, LEAST = 1.5, 0.5  # of the model's own side
FEW_STEPS, USUAL_STEPS = 4, 20


@dataclass(frozen=True)
class MadeFor:
    """width, height: in pixels, of its training pictures. factor: pixels a latent, which divides every size.

    frames: of its training clips; None without temporal layers. timesteps: of its noise schedule, the most steps.
    sees: what its UNet sees beside latents, of `shared.models.pipelines.classes.SEES`; None for nothing.
    """

    width: int
    height: int
    factor: int
    frames: int | None
    timesteps: int
    sees: str | None = None


def made_for(folder: str | Path) -> MadeFor | None:
    """Read from a diffusers folder or a single file; None where it does not say, which loading tells more about."""
    try:
        if Path(folder).is_file():
            return _of_file(Path(folder))
        unet, vae, scheduler = (
            _config(Path(folder), name) for name in ("unet/config", "vae/config", "scheduler/scheduler_config")
        )
        temporal = Path(folder) / "temporal" / "config.json"
        size = unet["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        widths = vae.get("block_out_channels") or vae["encoder_block_out_channels"]
        factor = 2 ** (len(widths) - 1)
        frames = _config(Path(folder), "temporal/config").get("frames", 16) if temporal.is_file() else None
        timesteps = scheduler.get("num_train_timesteps", 1000)
        sees = SEES.get(str(_config(Path(folder), "model_index").get(CLASS)))
        return MadeFor(width * factor, height * factor, factor, frames, timesteps, sees)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ModelError):
        return None


def _of_file(file: Path) -> MadeFor | None:
    """Of Stable Diffusion 2 there are two sizes, which go with what it predicts: where that is not said, None."""
    entries, metadata = read_entries(file)
    header = {name: entry.shape for name, entry in entries.items()}
    family, predicts = family_of(header), said(file, header, metadata)
    if family not in SUPPORTED or (family == SD2 and predicts is None):
        return None
    unet = unet_config(file, header, family, predicts or EPSILON)
    vae, scheduler = vae_config(file, header, unet), scheduler_config(family, predicts or EPSILON)
    side, factor = vae["sample_size"], vae["sample_size"] // unet["sample_size"]
    return MadeFor(side, side, factor, None, scheduler["num_train_timesteps"])


def size_advice(model: MadeFor, width: int | None, height: int | None) -> str | None:
    """One line where a side is more than 1.5 or less than 0.5 of the model's own (None: just that); None otherwise.

    Raises InputError for a side that the codec's factor does not divide.
    """
    width = model.width if width is None else width
    height = model.height if height is None else height
    check_size(width, height, model.factor)
    if LEAST <= width / model.width <= MOST and LEAST <= height / model.height <= MOST:
        return None
    near = [
        _multiple(min(max(side, LEAST * own), MOST * own), model.factor, LEAST * own)
        for side, own in ((width, model.width), (height, model.height))
    ]
    return (
        f"size {width}x{height}: this model was made for {model.width}x{model.height} and shows noise or repeats so "
        f"far from it; {near[0]}x{near[1]} is the nearest that it may do well"
    )


def frames_advice(model: MadeFor, frames: int, window: int | None) -> str | None:
    """One line where the network sees more frames at a time than 1.5 of those it was trained on."""
    if model.frames is None or min(frames, window or frames) <= MOST * model.frames:
        return None
    seen = f"frames {frames}" if window is None else f"window {window}"
    return f"{seen}: this model was made for {model.frames} frames at a time; window {model.frames} keeps to that"


def steps_advice(model: MadeFor, steps: int) -> str | None:
    """One line for fewer than 4 steps, or more than there are timesteps."""
    if steps > model.timesteps:
        return f"steps {steps}: this model has {model.timesteps} timesteps, the most steps that it can take"
    if steps < FEW_STEPS:
        return f"steps {steps}: too few to show much; {USUAL_STEPS} is usual, {FEW_STEPS} the least for a sketch"
    return None


def _multiple(size: float, factor: int, least: float) -> int:
    """The multiple of `factor` at or below `size`, or the one above where that is below `least`."""
    below = int(size // factor * factor)
    return below if below >= max(least, factor) else below + factor


def _config(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
