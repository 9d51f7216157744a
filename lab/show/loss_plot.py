"""A training's losses as a picture: every step that was logged, and a median that runs over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 720, 360
LEFT, TOP, RIGHT, BOTTOM = 64, 34, 34, 34  # margins
POINT, LINE, GRID, TEXT = (170, 190, 215), (20, 80, 160), (226, 226, 226), (40, 40, 40)
TEXT_SIZE = 13
WINDOW = 0.05  # share of the points that a median is of
TICKS = 5


def loss_plot(steps: Sequence[int], losses: Sequence[float], title: str) -> UInt8[np.ndarray, "h w 3"]:
    """Losses over steps, on a logarithmic axis where they are all above 0. One point, or none, is a picture, too."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(TEXT_SIZE)
    draw.text((LEFT, 8), title, fill=TEXT, font=font)
    shown = [(step, loss) for step, loss in zip(steps, losses, strict=True) if math.isfinite(loss)]
    if shown:
        x, y = (np.array(values, dtype=float) for values in zip(*shown, strict=True))
        logarithmic = bool((y > 0).all())
        y = np.log10(y) if logarithmic else y
        across, down = _axis(x, LEFT, WIDTH - RIGHT), _axis(y, HEIGHT - BOTTOM, TOP)
        for value in np.linspace(y.min(), y.max(), TICKS):
            at = down(value)
            draw.line([(LEFT, at), (WIDTH - RIGHT, at)], fill=GRID)
            draw.text((6, at - TEXT_SIZE / 2), f"{10**value if logarithmic else value:.3g}", fill=TEXT, font=font)
        for value in np.linspace(x.min(), x.max(), TICKS):
            draw.text((across(value), HEIGHT - BOTTOM + 8), f"{value:.0f}", fill=TEXT, font=font, anchor="ma")
        for a, b in zip(x, y, strict=True):
            draw.ellipse([across(a) - 2, down(b) - 2, across(a) + 2, down(b) + 2], fill=POINT)
        points = [(across(a), down(b)) for a, b in zip(x, running_median(y), strict=True)]
        draw.line(points if len(points) > 1 else points * 2, fill=LINE, width=2)
    return np.asarray(image)


def running_median(values: np.ndarray) -> np.ndarray:
    """At each value the median of those around it, WINDOW of them all, fewer at the ends."""
    half = max(1, int(WINDOW * len(values) / 2))
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def _axis(values: np.ndarray, first: float, last: float) -> Callable[[float], float]:
    """value -> pixel, from the least at `first` to the greatest at `last`; in the middle where they are one."""
    low, span = values.min(), np.ptp(values)
    return lambda value: first + (last - first) * ((value - low) / span if span else 0.5)
