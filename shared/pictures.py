"""Images to files and back (PNG, JPEG, WebP), and what they share with clips: arrays, texts, file names.

An image is a uint8 array `h w 3`, RGB, nothing else. The same image gives the same file bytes. No torch here.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from shared.errors import InputError, KinoformError
from shared.files import atomic_path, write_bytes
from shared.rgb import as_rgb

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

# The key of the run record. Containers with no free keys (MP4, WebM, GIF) keep it in their one comment.
TAG = "kinoform"

MAX_PIXELS = 64 * 1024**2  # of one image
DECOMPRESSION_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


def write_image(path: str | os.PathLike[str], image: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write an image `h w 3` uint8 to .png, .jpg or .webp. PNG holds `text`; beside others it goes to `<file>.json`."""
    suffix = checked_suffix(path, IMAGE_SUFFIXES)
    picture = Image.fromarray(checked_frames(np.asarray(image)[None])[0])
    data = io.BytesIO()
    if suffix == ".png":
        picture.save(data, "PNG", pnginfo=_png_text(text or {}))
    elif suffix == ".webp":
        picture.save(data, "WEBP", lossless=True)
    else:
        picture.save(data, "JPEG", quality=95, subsampling=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.getvalue())
        if text and suffix != ".png":
            write_bytes(sidecar(path), (text.get(TAG) or json.dumps(dict(text), sort_keys=True)).encode())


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """An image file as `h w 3` uint8 sRGB, upright; transparency lies on white. InputError when it is none."""
    with _opened_image(path) as opened:
        try:
            return np.array(as_rgb(opened))
        except ValueError as error:
            raise InputError(f"image {path}", expected="8 or 16 bits a channel", got=str(error)) from error


def read_image_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a PNG carries; of other formats, none. InputError when it is no image."""
    with _opened_image(path) as picture:
        return dict(picture.text) if isinstance(picture, PngImagePlugin.PngImageFile) else {}


def sidecar(path: str | os.PathLike[str]) -> Path:
    """Where the run record of a file lies whose format has no room for it: `<file>.json`."""
    return Path(f"{os.fspath(path)}.json")


def checked_suffix(path: str | os.PathLike[str], known: Sequence[str]) -> str:
    """The ending of an output's name, in lower case; "" for a folder. InputError when it is not in `known`."""
    text = os.fspath(path)
    suffix = "" if text.endswith(("/", os.sep)) else Path(text).suffix.lower()
    if suffix not in known:
        endings = ", ".join(s for s in known if s) + (" or a folder" if "" in known else "")
        raise InputError("output", expected=f"a name ending in {endings}", got=text)
    return suffix


def checked_frames(frames: np.ndarray) -> UInt8[np.ndarray, "t h w 3"]:
    """`frames`, when they are uint8 `t h w 3` with at least one frame and pixel; else a KinoformError."""
    got = f"{getattr(frames, 'dtype', type(frames).__name__)} {getattr(frames, 'shape', '')}"
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise KinoformError("frames", expected="uint8 (t, h, w, 3)", got=got, hint="to_uint8 makes them from pixels.")
    if 0 in frames.shape:
        raise KinoformError("frames", expected="at least one frame and pixel", got=got)
    return np.ascontiguousarray(frames)


def _png_text(text: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    return info


def _opened_image(path: str | os.PathLike[str]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path)
        if picture.width * picture.height > MAX_PIXELS:
            size = f"{picture.width}x{picture.height}"
            raise InputError(f"image {path}", expected=f"at most {MAX_PIXELS} pixels", got=size)
        picture.load()
    except FileNotFoundError as error:
        raise InputError("image", expected="a file that exists", got=os.fspath(path)) from error
    except (OSError, SyntaxError, ValueError, EOFError, *DECOMPRESSION_BOMBS) as error:
        raise InputError(f"image {path}", expected="a readable image", got=str(error)) from error
    return picture
