"""Images to files and back (PNG, JPEG, WebP), and what they share with clips: arrays, texts, file names.

An image is a uint8 array `h w 3`, RGB, nothing else. The same image gives the same file bytes. No torch here.
Texts: PNG holds any; JPEG and WebP one, in the user comment of EXIF, where cameras and other programs look for it.
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

from shared.artifacts.files import write_bytes
from shared.artifacts.formats.rgb import as_rgb
from shared.artifacts.tag import TAG as TAG
from shared.errors import InputError, KinoformError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
ASCII, UNICODE = b"ASCII\0\0\0", b"UNICODE\0"  # before a user comment: how it is written
MAX_EXIF = 65_000  # bytes: what fits into a segment of a JPEG

MAX_PIXELS = 64 * 1024**2  # of one image
DECOMPRESSION_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


def write_image(path: str | os.PathLike[str], image: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write an image `h w 3` uint8 to .png, .jpg or .webp, with `text` inside it.

    JPEG and WebP hold the text TAG alone, or else all of `text` as JSON; KinoformError above MAX_EXIF bytes of it.
    """
    suffix = checked_suffix(path, IMAGE_SUFFIXES)
    picture = Image.fromarray(checked_frames(np.asarray(image)[None])[0])
    data = io.BytesIO()
    if suffix == ".png":
        picture.save(data, "PNG", pnginfo=png_text(text or {}))
    else:
        comment = (text.get(TAG) or json.dumps(dict(text), sort_keys=True)) if text else ""
        exif = exif_of(comment) if comment else b""
        if len(exif) > MAX_EXIF:
            raise KinoformError(f"texts for {suffix}", expected=f"at most {MAX_EXIF} bytes", got=f"{len(exif)} bytes")
        if suffix == ".webp":
            picture.save(data, "WEBP", lossless=True, exif=exif)
        else:
            picture.save(data, "JPEG", quality=95, subsampling=0, exif=exif)
    write_bytes(path, data.getvalue())


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """An image file as `h w 3` uint8 sRGB, upright; transparency lies on white. InputError when it is none."""
    with _opened_image(path) as opened:
        try:
            return np.array(as_rgb(opened))
        except ValueError as error:
            raise InputError(f"image {path}", expected="8 or 16 bits a channel", got=str(error)) from error


def read_image_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that an image carries; the user comment of EXIF as TAG. InputError when it is no image."""
    with _opened_image(path) as picture:
        return text_of_picture(picture)


def text_of_picture(picture: Image.Image) -> dict[str, str]:
    """The texts in an open PNG, JPEG or WebP: PNG's own, and the user comment of EXIF as TAG."""
    texts = dict(picture.text) if isinstance(picture, PngImagePlugin.PngImageFile) else {}
    comment = picture.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    if TAG not in texts and isinstance(comment, bytes) and len(comment) > len(UNICODE):
        code, content = comment[: len(UNICODE)], comment[len(UNICODE) :]
        # Programs differ in the order of UTF-16's bytes; JSON, in which every second byte is zero, tells.
        utf_16 = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
        encoding = {ASCII: "ascii", UNICODE: utf_16}.get(code)
        if encoding:
            texts[TAG] = content.decode(encoding, "replace").rstrip("\0")
    return texts


def exif_of(comment: str) -> bytes:
    """EXIF data with a user comment (EXIF 2.32, 4.6.5) and nothing else: in ASCII if it can be, else in UTF-16."""
    exif = Image.Exif()
    content = ASCII + comment.encode() if comment.isascii() else UNICODE + comment.encode("utf-16-be", "replace")
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = content
    return exif.tobytes()


def png_text(text: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """The text chunks of a PNG."""
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    return info


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
