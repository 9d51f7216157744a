"""What a call of the video pipeline is given: which of it goes together, and what it amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL.Image import Image
from torch import Tensor

from shared.errors import InputError
from shared.rng import generator as seeded

OUTPUT_TYPES = ("np", "pil", "pt", "latent")
Picture = Image | UInt8[np.ndarray, "_ _ 3"]
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds")


def check_call(
    num_frames: int, num_videos_per_prompt: int, output_type: str, window: int | None, tensors: Sequence[str]
) -> None:
    """Raises InputError for a number, type or name that is wrong by itself."""
    for name, number in (("num_frames", num_frames), ("num_videos_per_prompt", num_videos_per_prompt)):
        if number < 1:
            raise InputError(name, expected="1 or more", got=number)
    if window is not None and window < 2:
        raise InputError("window", expected="2 frames or more, or None for all at once", got=window)
    if output_type not in OUTPUT_TYPES:
        raise InputError("output_type", expected=", ".join(OUTPUT_TYPES), got=output_type)
    for name in tensors:
        if name not in CALLBACK_TENSORS:
            raise InputError("callback_on_step_end_tensor_inputs", expected=", ".join(CALLBACK_TENSORS), got=name)


def given_frames(
    num_frames: int, image: Picture | None, last_image: Picture | None
) -> dict[int, UInt8[np.ndarray, "_ _ 3"]]:
    """The pictures by the frames that they are. Raises InputError for two of them and one frame."""
    if last_image is not None and num_frames < 2:
        raise InputError("num_frames", expected="2 or more, with last_image", got=num_frames)
    named = {0: image, num_frames - 1: last_image}
    return {
        frame: np.asarray(picture.convert("RGB") if isinstance(picture, Image) else picture)
        for frame, picture in named.items()
        if picture is not None
    }


def texts_of(
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    prompt_embeds: Tensor | None,
    negative_prompt_embeds: Tensor | None,
) -> tuple[list[str], list[str]]:
    """A prompt and a negative prompt each; [] of those whose embeddings are given.

    Raises InputError for both, or neither, of a prompt and its embeddings, and for numbers that do not go together.
    """
    if (prompt is None) == (prompt_embeds is None):
        got = "neither" if prompt is None else "both"
        raise InputError("prompt", expected="one of prompt and prompt_embeds", got=got)
    if negative_prompt is not None and negative_prompt_embeds is not None:
        raise InputError("negative_prompt", expected="one of it and negative_prompt_embeds", got="both")
    prompts = [] if prompt is None else [prompt] if isinstance(prompt, str) else list(prompt)
    count = len(prompts) if prompt_embeds is None else len(prompt_embeds)
    if not count:
        raise InputError("prompt", expected="one or more", got="none")
    if negative_prompt_embeds is not None:
        return prompts, []
    negative = "" if negative_prompt is None else negative_prompt
    negatives = [negative] * count if isinstance(negative, str) else list(negative)
    if len(negatives) != count:
        raise InputError("negative_prompt", expected=f"one, or one for each of {count} prompts", got=len(negatives))
    return prompts, negatives


def generators_for(
    clips: int, videos_per_prompt: int, generator: torch.Generator | Sequence[torch.Generator] | None, seeds: Any
) -> list[torch.Generator]:
    """One a clip. Raises InputError for generators and seeds at once, or numbers of them that do not go together."""
    if generator is not None and seeds is not None:
        raise InputError("seeds", expected="one of seeds and generator", got="both")
    if isinstance(generator, torch.Generator):
        return [generator] * clips
    if generator is not None:
        if len(generator) != clips:
            raise InputError("generator", expected=f"one, or one for each of {clips} clips", got=len(generator))
        return list(generator)
    prompts = clips // videos_per_prompt
    single = seeds is None or isinstance(seeds, (int, np.integer))
    firsts = [0 if seeds is None else seeds] * prompts if single else list(seeds)
    if len(firsts) != prompts:
        raise InputError("seeds", expected=f"one, or one for each of {prompts} prompts", got=len(firsts))
    return [seeded(int(first) + i if i else first) for first in firsts for i in range(videos_per_prompt)]
