"""Pictures that a recipe names: read and looked at before anything heavy is loaded. Imports no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from shared.artifacts.media import read_image
from shared.errors import InputError

WHITE = 255


def check_pictures(recipe: Any) -> None:
    """Raises InputError for a file that holds no picture, a mask or depth of another size than its picture or of one
    grey."""
    keys = ("image", "last", "mask", "depth")
    found = {key: read_image(path) for key in keys if (path := getattr(recipe, key, None))}
    if "mask" in found:
        checked_mask(found["mask"], found["image"], recipe.mask)
    if "depth" in found:
        checked_depth(found["depth"], found.get("image"), recipe.depth)


def checked_mask(
    mask: UInt8[np.ndarray, "_ _ 3"], picture: UInt8[np.ndarray, "h w 3"], name: str
) -> UInt8[np.ndarray, "h w 3"]:
    """The mask. Raises InputError, which names it, for one of another size, all black, all white or of one grey."""
    _check_size(f"mask {name}", mask, picture)
    if mask.min() == mask.max():
        got = "all of it white" if mask.max() == WHITE else "all of it black" if mask.max() == 0 else "one grey"
        hint = "For all of a picture leave out --mask and say --strength" if mask.max() else ""
        raise InputError(f"mask {name}", expected="white where to paint, black where not", got=got, hint=hint)
    return mask


def checked_depth(
    depth: UInt8[np.ndarray, "_ _ 3"], picture: UInt8[np.ndarray, "h w 3"] | None, name: str
) -> UInt8[np.ndarray, "_ _ 3"]:
    """The depth. Raises InputError, which names it, for one of another size than its picture's, or of one grey."""
    if picture is not None:
        _check_size(f"depth {name}", depth, picture)
    if depth.min() == depth.max():
        raise InputError(f"depth {name}", expected="white where it is near, black where far", got="one grey")
    return depth


def _check_size(what: str, array: UInt8[np.ndarray, "_ _ 3"], picture: UInt8[np.ndarray, "h w 3"]) -> None:
    if array.shape != picture.shape:
        sizes = [f"{each.shape[1]}x{each.shape[0]} pixels" for each in (picture, array)]
        raise InputError(what, expected=f"the picture's size, {sizes[0]}", got=sizes[1])
