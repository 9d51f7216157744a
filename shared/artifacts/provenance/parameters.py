"""What made a picture, as AUTOMATIC1111's web interface writes it into a PNG: other galleries and tools read that.

The prompt, a line with the negative one, and a line of names and values of which the first is `Steps`.
"""

from __future__ import annotations

from shared.artifacts.run_record import RunRecord

NAME = "parameters"  # of the text in the PNG
HASH_DIGITS = 10


def parameters_of(record: RunRecord, width: int, height: int) -> str:
    """The text for a picture of this size in pixels. What the recipe does not hold is left out."""
    recipe = record.recipe
    hashes = record.model.hashes
    denoiser = next((sha for name, sha in sorted(hashes.items()) if name.startswith(("unet", "transformer"))), None)
    digest = denoiser or next(iter(hashes.values()), None)
    values = {
        "Steps": recipe.get("steps"),
        "Sampler": recipe.get("scheduler"),
        "CFG scale": recipe.get("guidance_scale"),
        "Seed": record.seed,
        "Size": f"{width}x{height}",
        "Model hash": None if digest is None else digest[:HASH_DIGITS],
        "Model": record.model.name,
        "Denoising strength": recipe.get("strength"),
        "Version": f"kinoform {record.kinoform_version}",
    }
    told = ", ".join(f"{name}: {_plain(value)}" for name, value in values.items() if value is not None)
    negative = [f"Negative prompt: {recipe['negative']}"] if recipe.get("negative") else []
    return "\n".join([str(recipe.get("prompt", "")), *negative, told])


def _plain(value: object) -> str:
    """A value without what separates values."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace(",", " ").replace("\n", " ")
