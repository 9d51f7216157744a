"""Pictures that a recipe names: read and looked at before anything heavy is loaded. Imports no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from shared.artifacts.media import read_image
from shared.errors import InputError

WHITE = 255


def check_pictures(recipe: Any) -> None:
    """Raises InputError for a file that holds no picture, a mask of another size than its picture or of one grey."""
    found = {key: read_image(path) for key in ("image", "last", "mask") if (path := getattr(recipe, key, None))}
    if "mask" in found:
        checked_mask(found["mask"], found["image"], recipe.mask)


def checked_mask(
    mask: UInt8[np.ndarray, "_ _ 3"], picture: UInt8[np.ndarray, "h w 3"], name: str
) -> UInt8[np.ndarray, "h w 3"]:
    """The mask. Raises InputError, which names it, for one of another size, all black, all white or of one grey."""
    if mask.shape != picture.shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]} pixels" for array in (picture, mask)]
        raise InputError(f"mask {name}", expected=f"the picture's size, {sizes[0]}", got=sizes[1])
    if mask.min() == mask.max():
        got = "all of it white" if mask.max() == WHITE else "all of it black" if mask.max() == 0 else "one grey"
        hint = "For all of a picture leave out --mask and say --strength" if mask.max() else ""
        raise InputError(f"mask {name}", expected="white where to paint, black where not", got=got, hint=hint)
    return mask
