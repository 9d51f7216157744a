"""A contact sheet: rows of pictures with a line of text above each row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from shared.errors import KinoformError

GAP = 6
TEXT_SIZE = 15
TEXT_COLOUR = (40, 40, 40)
MOST, A_ROW = 8, 4  # pictures of `tiled`


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str] | None = None, *, scale: int = 1
) -> UInt8[np.ndarray, "h w 3"]:
    """One image of `rows` of images `h w 3` uint8, on white, each `scale` times enlarged without smoothing.

    Images may differ in size; a row is as high as its highest. `labels` has one text a row. KinoformError when there is
    no image, when one is not uint8 RGB, or when labels and rows differ in number.
    """
    pictures = [[_enlarged(image, scale) for image in row] for row in rows]
    if not any(pictures):
        raise KinoformError("contact sheet", expected="at least one image", got="none")
    if labels is not None and len(labels) != len(rows):
        raise KinoformError("contact sheet labels", expected=f"one for each of {len(rows)} rows", got=len(labels))
    font = ImageFont.load_default(TEXT_SIZE)
    text_height = TEXT_SIZE + GAP if labels is not None else 0
    heights = [text_height + max((p.height for p in row), default=0) + GAP for row in pictures]
    width = GAP + max(sum(p.width + GAP for p in row) for row in pictures)
    if labels is not None:
        width = max(width, *(2 * GAP + int(font.getlength(_line(label))) for label in labels))
    sheet = Image.new("RGB", (width, GAP + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for index, row in enumerate(pictures):
        if labels is not None:
            draw.text((GAP, top), _line(labels[index]), fill=TEXT_COLOUR, font=font)
        left = GAP
        for picture in row:
            sheet.paste(picture, (left, top + text_height))
            left += picture.width + GAP
        top += heights[index]
    return np.array(sheet)


def _enlarged(image: np.ndarray, scale: int) -> Image.Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise KinoformError("contact sheet image", expected="uint8 (h, w, 3)", got=got)
    return Image.fromarray(np.repeat(np.repeat(image, scale, axis=0), scale, axis=1))


def _line(label: str) -> str:
    text = " ".join(label.split())
    return text if len(text) <= 100 else text[:97] + "..."


def tiled(pictures: Sequence[np.ndarray]) -> UInt8[np.ndarray, "h w 3"]:
    """Pictures of one size "h w 3" on one, at most MOST of them, evenly from all; what is left of a row is black."""
    count = min(len(pictures), MOST)
    chosen = [pictures[index] for index in np.linspace(0, len(pictures) - 1, count).round().astype(int)]
    chosen += [np.zeros_like(chosen[0])] * (-count % A_ROW if count > A_ROW else 0)
    rows = [chosen[start : start + A_ROW] for start in range(0, len(chosen), A_ROW)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
