"""What a run gives back: a picture, a clip or an asset, that can be looked at, saved, and carries its record.

Each shows itself in a notebook. `save` writes the bytes that the command line writes.
"""

from __future__ import annotations

import base64
import html
import io
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dreamfusion.mesh.files.formats import PRINTED_SUFFIXES
from shared.artifacts.formats.animation import webp_bytes
from shared.artifacts.media import TAG, VIDEO_SUFFIXES, write_clip, write_image
from shared.artifacts.provenance.parameters import NAME, parameters_of

if TYPE_CHECKING:
    import trimesh

    from dreamfusion.mesh.report import MeshReport
    from shared.artifacts.run_record import RunRecord

NOTEBOOK_SIDE = 256  # pixels that a small picture is enlarged to where a notebook shows it


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels: uint8 "h w 3", sRGB. record: what made it.

    >>> import kinoform
    >>> picture = kinoform.image("a red cube", steps=4)
    >>> picture.pixels.shape
    (64, 64, 3)
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    record: RunRecord

    @property
    def pil(self) -> Image.Image:
        """As a Pillow image."""
        return Image.fromarray(self.pixels)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write .png, .jpg or .webp, the record inside; in a PNG also as other galleries read it. Raises InputError for
        another ending or a place that cannot be written to, OutputError when the disk is full.
        """
        height, width = self.pixels.shape[:2]
        write_image(path, self.pixels, {TAG: self.record.to_json(), NAME: parameters_of(self.record, width, height)})
        return Path(path)

    def thumbnails(self) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The picture itself, alone."""
        return [self.pixels]

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        scale = max(1, NOTEBOOK_SIDE // max(self.pil.size))
        self.pil.resize((self.pil.width * scale, self.pil.height * scale), Image.Resampling.NEAREST).save(data, "PNG")
        return data.getvalue()


@dataclass(frozen=True, eq=False)
class Clip:
    """frames: uint8 "t h w 3", sRGB. fps: frames a second. record: what made it.

    >>> import kinoform
    >>> clip = kinoform.clip("a red ball bouncing", steps=4)
    >>> clip.frames.shape, clip.fps
    ((16, 64, 64, 3), 8.0)
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    fps: float
    record: RunRecord

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a clip in the format of the ending (see `kinoform clip --help`), the record inside; a path without one
        becomes a folder of PNGs. Raises as `Picture.save`.
        """
        tags = {TAG: self.record.to_json()}
        if Path(path).suffix.lower() in VIDEO_SUFFIXES:
            tags["title"] = str(self.record.recipe.get("prompt", ""))
        write_clip(path, self.frames, self.fps, tags)
        return Path(path)

    def thumbnails(self, count: int = 8) -> list[UInt8[np.ndarray, "h w 3"]]:
        """`count` frames, evenly in time."""
        return list(self.frames[np.linspace(0, len(self.frames) - 1, count).round().astype(int)])

    def _repr_html_(self) -> str:
        return _moving_picture(self, html.escape(str(self.record.recipe.get("prompt", ""))))


@dataclass(frozen=True, eq=False)
class Asset:
    """mesh: a trimesh.Trimesh, y up, front towards +z, display-referred vertex colours. record: what made it.

    report: counts, extents and whether it is watertight.
    """

    mesh: trimesh.Trimesh
    report: MeshReport
    record: RunRecord

    def turntable(self, frames: int | None = None, size: int | None = None, fps: float | None = None) -> Clip:
        """A clip of it turning once; what is not given is as its recipe says. size: side in pixels."""
        from dreamfusion.mesh.turntable import turntable

        recipe = self.record.recipe
        turned = turntable(
            self.mesh, frames=frames or recipe["turntable_frames"], size=size or recipe["turntable_size"]
        )
        return Clip(turned, float(fps or recipe["turntable_fps"]), self.record)

    def save(self, path: str | os.PathLike[str], *, print_size: float | None = None) -> Path:
        """Write a mesh in the format of the ending, the record inside. print_size: millimetres along the longest side,
        for .stl and .3mf; as its recipe says where not given. Raises as `Picture.save`.
        """
        from dreamfusion.mesh.files.write import write_mesh

        asked = self.record.recipe.get("print_size") if Path(path).suffix.lower() in PRINTED_SUFFIXES else None
        write_mesh(path, self.mesh, self.record, print_size_mm=print_size or asked)
        return Path(path)

    def thumbnails(self, count: int = 4) -> list[UInt8[np.ndarray, "h w 3"]]:
        """`count` views around it."""
        return list(self.turntable(count, 96).frames)

    def _repr_html_(self) -> str:
        return _moving_picture(self.turntable(24, 192), html.escape(self.report.line()))


Result = Picture | Clip | Asset


def _moving_picture(clip: Clip, caption: str) -> str:
    """An animated WebP inside an HTML image: every notebook plays it, and no file has to lie beside the notebook."""
    data = base64.b64encode(webp_bytes(clip.frames, Fraction(clip.fps), "")).decode("ascii")
    width = max(NOTEBOOK_SIDE, clip.frames.shape[2])
    style = "image-rendering: pixelated" if width > clip.frames.shape[2] else ""
    return (
        f'<figure style="margin:0"><img width="{width}" style="{style}" alt="{caption}" '
        f'src="data:image/webp;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
