"""Which keys of a recipe a pipeline takes, read from the signature of its call; and what it is called with.

Recipe keys and the names that pipelines have for them are one table; which of the names a class has, it says itself.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter
from typing import Any, TypeVar

from shared.errors import InputError
from shared.models.adapters.recipe import PARTS
from shared.recipe import SAME_RESULT, Recipe

Takes = Mapping[str, Parameter]
R = TypeVar("R", bound=Recipe)

FRAMES = ("num_frames", "video_length", "frames")
NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "negative": ("negative_prompt",),
    "image": ("image",),
    "last": ("last_image",),
    "mask": ("mask_image",),
    "strength": ("strength",),
    "frames": FRAMES,
    "fps": ("fps", "frame_rate", "target_fps"),
    "width": ("width",),
    "height": ("height",),
    "steps": ("num_inference_steps", "decoder_num_inference_steps"),
    "guidance_scale": ("guidance_scale", "max_guidance_scale", "decoder_guidance_scale"),
    "guidance_rescale": ("guidance_rescale",),
    "decode_frames": ("decode_chunk_size",),
}
# Keys that are obeyed without a word to the pipeline, and the prompt, which a model of pictures alone does without.
OURS = frozenset(
    {"model", "pipeline_class", "lora", "embeddings", *PARTS, "scheduler", "seed", "fps"}
    | {"precision", "quantization", "offload", "decode", "prompt"}
)
WITH_PICTURES = "Diffusers has no class for it beside this one: name another that takes the model's parts, "
WITH_PICTURES += "--pipeline-class NAME, or take a model of another family"
OWN = ("steps", "guidance_scale", "guidance_rescale", "fps")  # what the class has defaults of its own for


def names_of(takes: Takes) -> dict[str, str]:
    """The class's names for the recipe keys that it takes."""
    found = {key: name for key, names in NAMES.items() if (name := next((n for n in names if n in takes), ""))}
    if "true_cfg_scale" in takes and "guidance_scale" in takes:
        if takes["guidance_scale"].default is None:  # the other is for distilled models alone
            found["guidance_scale"] = "true_cfg_scale"
        elif takes["true_cfg_scale"].default <= 1:  # without it a negative prompt is passed over
            found.pop("negative", None)
    return found


def check_keys(class_name: str, takes: Takes, recipe: Recipe) -> None:
    """Raises InputError for the first key that is not at its default and that the class does not take."""
    names = names_of(takes)
    for key in _unknown(names, recipe):
        if getattr(recipe, key) != type(recipe).model_fields[key].default:
            taken = ", ".join(sorted((names.keys() | OURS) & type(recipe).model_fields.keys()))
            raise InputError(
                f"{key.replace('_', '-')} with a {class_name}", expected=f"one of {taken}", got=getattr(recipe, key),
                hint=WITH_PICTURES if key in ("image", "mask", "last") else "",
            )  # fmt: skip
    for needed, parameter in takes.items():
        if parameter.default is Parameter.empty and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
            key = next((key for key, name in names.items() if name == needed), "")
            if getattr(recipe, key, None) is None:
                what = f"--{key}" if key in type(recipe).model_fields else f"its {needed}, which no key of ours gives"
                raise InputError(f"a {class_name}", expected=what, got="nothing")


def unused_keys(takes: Takes, recipe: Recipe) -> list[str]:
    """Keys with a value that has no part in what the class makes; the prompt, too, where it takes none."""
    names = names_of(takes)
    valued = [key for key in _unknown(names, recipe) if getattr(recipe, key) is not None]
    return [*valued, *([] if "prompt" in names else ["prompt"])]


def call_values(takes: Takes, recipe: Recipe) -> dict[str, Any]:
    """What the class is called with of a recipe, by its own names. What is not given is left to its own defaults."""
    names = names_of(takes)
    # These are not guided without a negative prompt, be it an empty one.
    needed = {"negative"} if names.get("guidance_scale") == "true_cfg_scale" else set()
    given = [key for key in names if getattr(recipe, key, None) not in (None, "") or key in needed]
    return {names[key]: getattr(recipe, key) for key in given}


def completed(takes: Takes, recipe: R) -> R:
    """The recipe with the class's own defaults for the OWN keys that were not set in it, as if they had been.

    A key that was set to the recipe's default stays as it is; so does one whose parameter has no default.
    """
    own = {
        key: takes[name].default
        for key, name in names_of(takes).items()
        if key in OWN
        and key in type(recipe).model_fields
        and key not in recipe.model_fields_set
        and takes[name].default not in (None, Parameter.empty)
    }
    said = {key: getattr(recipe, key) for key in recipe.model_fields_set}
    return type(recipe).parse({**said, **own}) if own else recipe


def told(class_name: str, takes: Takes) -> list[str]:
    """A line where the prompt has no part."""
    if "prompt" in names_of(takes):
        return []
    return [f"a {class_name} takes no prompt: it has no part in what comes out"]


def _unknown(names: Mapping[str, str], recipe: Recipe) -> list[str]:
    fields = type(recipe).model_fields
    return [key for key in fields if key not in names and key not in OURS and not _idle(recipe, key)]


def _idle(recipe: Recipe, key: str) -> bool:
    """Whether a key changes nothing that comes out, and is at its default."""
    field = type(recipe).model_fields[key]
    extra = field.json_schema_extra
    return isinstance(extra, dict) and SAME_RESULT in extra and getattr(recipe, key) == field.default
