"""A look at a finished file: what a page needs to know of it, and a small picture. torch comes in for meshes alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dreamfusion.mesh.files.formats import ASSET_SUFFIXES
from shared.artifacts.formats.animation import ANIMATED_SUFFIXES
from shared.artifacts.formats.video_file import ENCODERS
from shared.artifacts.media import IMAGE_SUFFIXES, is_clip, read_clip, read_image
from shared.errors import KinoformError, one_line

if TYPE_CHECKING:
    import trimesh

SIDE = 256  # pixels of a thumbnail's longer side, at most
TINY = 128  # pixels of the longer side of what is shown by its own pixels
MAX_GLB = 20 * 1024**2  # bytes of a mesh that a page takes in
GLB_HEAD = b"glTF\2\0\0\0"  # glTF 2.0, binary
MAX_TEXT = 20_000  # characters of a text that a page shows
TEXTS = (".json", ".txt", ".md", ".yaml", ".csv")
TURNED = 30.0  # degrees that an asset's picture is turned from its front

Facts = dict[str, Any]


def look(file: Path) -> tuple[Facts, bytes | None]:
    """What `file` is, and its thumbnail as WebP where there can be one.

    media: image, video, animation, frames, asset, text or file. width, height: in pixels. small: of a picture that is
    its own thumbnail. frames, fps: of what moves.
    viewer: of an asset that a page can turn. text: of one. note: what is wrong with the file, or why it is not shown.
    """
    media = medium(file)
    try:
        return _looks.get(media, _unseen)(file, media)
    except Exception as error:  # whatever a damaged file makes a decoder raise: it is shown in the file's place
        said = str(error) if isinstance(error, KinoformError) else f"{type(error).__name__}: {error}"
        return {"media": media, "note": f"This file cannot be shown. {one_line(said, 300)}"}, None


def medium(file: Path) -> str:
    """How a page would show a file, by its name and, where that leaves it open, by whether it moves."""
    suffix = file.suffix.lower()
    if file.is_dir():
        return "frames"
    if suffix in ENCODERS:
        return "video"
    if suffix in ASSET_SUFFIXES:
        return "asset"
    if suffix in (*IMAGE_SUFFIXES, *ANIMATED_SUFFIXES):
        try:
            return "animation" if is_clip(file) else "image"
        except KinoformError:
            return "image"  # a look at it says what is wrong
    return "text" if suffix in TEXTS else "file"


def _look_at_image(file: Path, media: str) -> tuple[Facts, bytes | None]:
    pixels = read_image(file)
    small = max(pixels.shape[:2]) <= TINY
    return {"media": media, **_size(pixels), "small": small}, None if small else thumbnail(pixels)


def _look_at_clip(file: Path, media: str) -> tuple[Facts, bytes | None]:
    clip = read_clip(file)
    middle = clip.frames[len(clip.frames) // 2]
    return {"media": media, **_size(middle), "frames": len(clip.frames), "fps": clip.fps}, thumbnail(middle)


def _look_at_asset(file: Path, media: str) -> tuple[Facts, bytes | None]:
    from dreamfusion.mesh.files.write import load_mesh  # here: it brings in torch

    suffix = file.suffix.lower()
    if suffix not in (".glb", ".ply"):
        return {"media": media, "note": f"There is no preview of {suffix} files."}, None
    viewer = suffix == ".glb" and file.stat().st_size <= MAX_GLB and _head(file) == GLB_HEAD
    facts: Facts = {"media": media, "viewer": viewer}
    try:
        mesh = load_mesh(file)
    except Exception:
        if not viewer:
            raise
        return facts, None  # a GLB unlike ours: the page's viewer may know it
    facts |= {"vertices": len(mesh.vertices), "faces": len(mesh.faces)}
    facts |= {} if viewer else {"note": f"Only GLB files up to {MAX_GLB >> 20} MB can be turned here."}
    return facts, _encoded(Image.fromarray(mesh_pixels(mesh)))


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(GLB_HEAD))


def _look_at_text(file: Path, media: str) -> tuple[Facts, bytes | None]:
    with file.open(encoding="utf-8", errors="replace") as opened:
        return {"media": media, "text": opened.read(MAX_TEXT)}, None


def _unseen(file: Path, media: str) -> tuple[Facts, bytes | None]:
    return {"media": media, "note": f"There is no preview of {file.suffix or 'such'} files."}, None


_looks = {
    "image": _look_at_image,
    "video": _look_at_clip,
    "animation": _look_at_clip,
    "frames": _look_at_clip,
    "asset": _look_at_asset,
    "text": _look_at_text,
}


def _size(pixels: np.ndarray) -> dict[str, int]:
    return {"width": pixels.shape[1], "height": pixels.shape[0]}


def mesh_pixels(mesh: trimesh.Trimesh, side: int = SIDE) -> UInt8[np.ndarray, "h w 4"]:
    """A mesh from the front, a little turned, on nothing: RGBA, for the page to put on what it likes.

    What shows of a black and a white ground is where nothing is.
    """
    from dreamfusion.mesh.turntable import render_mesh
    from dreamfusion.views import around

    views = around(1, side, start=TURNED)
    black, white = (render_mesh(mesh, views, background=ground)[0].astype(np.float64) for ground in (0.0, 1.0))
    alpha = np.clip(1 - (white - black).mean(axis=2, keepdims=True) / 255, 0, 1)
    colour = np.divide(black, alpha, out=np.zeros_like(black), where=alpha > 0)
    return np.concatenate([colour, 255 * alpha], axis=2).clip(0, 255).round().astype(np.uint8)


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as WebP, its longer side at most SIDE. Smaller ones keep every pixel as it is."""
    picture = Image.fromarray(pixels)
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _encoded(picture, lossless=max(picture.size) <= TINY)


def _encoded(picture: Image.Image, *, lossless: bool = False) -> bytes:
    data = io.BytesIO()
    picture.save(data, "WEBP", lossless=lossless, quality=85, method=1)
    return data.getvalue()
