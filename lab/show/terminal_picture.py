"""Pictures in a terminal: by kitty's graphics protocol, by sixels, or by half-block characters of two colours.

Half blocks need no more than colours, and live among text; the other two show real pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Protocol = Literal["kitty", "sixel", "blocks", "blocks-256"]

KITTY_TERMS = ("xterm-kitty", "xterm-ghostty", "wezterm")
KITTY_PROGRAMS = ("ghostty", "wezterm")
SIXEL_TERMS = ("foot", "foot-extra", "mlterm", "mlterm-256color", "contour", "yaft-256color", "vt340")
CELL = 8  # pixels that a column of text is taken to be wide, for sixels
CHUNK = 4096  # bytes of base64 in one of kitty's commands, by its protocol
HALF = "▀"
LEVELS = np.array([0, 95, 135, 175, 215, 255])  # of the 6x6x6 cube in xterm's 256 colours, from colour 16
GREYS = np.arange(24) * 10 + 8  # from colour 232
LIVE_ROWS = 16  # lines of text that a picture takes among text


def detect(environ: Mapping[str, str], isatty: bool) -> Protocol | None:
    """How a picture can be shown, from what the terminal says of itself in the environment; None where it cannot.

    Inside tmux and screen, which keep pictures from the terminal around them, half blocks.
    """
    term = environ.get("TERM", "")
    if not isatty or term in ("", "dumb") or environ.get("NO_COLOR"):
        return None
    inside = "TMUX" in environ or term.startswith(("screen", "tmux"))
    program = environ.get("TERM_PROGRAM", "").lower()
    if not inside and (term in KITTY_TERMS or "KITTY_WINDOW_ID" in environ or program in KITTY_PROGRAMS):
        return "kitty"
    if not inside and term in SIXEL_TERMS:
        return "sixel"
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "blocks"
    return "blocks-256" if "256color" in term else None


def draw(picture: UInt8[np.ndarray, "h w 3"], *, columns: int, protocol: Protocol) -> str:
    """What to print to show `picture`, at most `columns` wide, with a line break at its end.

    Half blocks show a pixel a column and are never enlarged; the other two enlarge by whole pixels.
    """
    if protocol == "kitty":
        return _kitty(picture, columns)
    if protocol == "sixel":
        return _sixel(_enlarged(_at_most(picture, columns * CELL), columns * CELL))
    return _blocks(_at_most(picture, columns), true_colour=protocol == "blocks")


def as_rich(picture: UInt8[np.ndarray, "h w 3"]) -> LivePicture:
    """A picture among rich's own things, such as below a bar, as half blocks."""
    return LivePicture(picture)


class LivePicture:
    """Half blocks in the room that there is, and LIVE_ROWS lines at the most. rich chooses among the colours that
    the terminal has.
    """

    def __init__(self, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        self.picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.color import Color
        from rich.segment import Segment
        from rich.style import Style

        rows = max(1, min(LIVE_ROWS, console.height - 4))
        columns = min(options.max_width, max(1, self.picture.shape[1] * 2 * rows // self.picture.shape[0]))
        for line in _cells(_at_most(self.picture, columns)):
            for (upper, lower), cells in groupby(line):
                under = None if lower is None else Color.from_rgb(*lower)
                yield Segment(HALF * len(list(cells)), Style(color=Color.from_rgb(*upper), bgcolor=under))
            yield Segment.line()


Rgb = tuple[int, ...]
Cell = tuple[Rgb, Rgb | None]  # the upper pixel and the lower, where there is one


def _cells(picture: np.ndarray) -> Iterator[list[Cell]]:
    """Lines of text: pairs of pixels above each other."""
    rows = [[tuple(pixel) for pixel in row] for row in picture.tolist()]
    for top in range(0, len(rows), 2):
        below = rows[top + 1] if top + 1 < len(rows) else [None] * len(rows[top])
        yield list(zip(rows[top], below, strict=True))


def _blocks(picture: np.ndarray, *, true_colour: bool) -> str:
    lines = []
    for line in _cells(picture):
        text = ""
        for (upper, lower), cells in groupby(line):
            under = "49" if lower is None else f"48;{_code(lower, true_colour)}"
            text += f"\x1b[38;{_code(upper, true_colour)};{under}m" + HALF * len(list(cells))
        lines.append(text + "\x1b[0m\n")
    return "".join(lines)


def _code(colour: Rgb, true_colour: bool) -> str:
    return "2;{};{};{}".format(*colour) if true_colour else f"5;{nearest_256(colour)}"


def nearest_256(colour: Rgb) -> int:
    """The nearest of xterm's 256 colours, beyond the first 16, which users change."""
    wanted = np.array(colour)
    steps = np.abs(LEVELS[None] - wanted[:, None]).argmin(axis=1)
    grey = int(np.abs(GREYS - wanted.mean()).argmin())
    if np.square(GREYS[grey] - wanted).sum() < np.square(LEVELS[steps] - wanted).sum():
        return 232 + grey
    return int(16 + 36 * steps[0] + 6 * steps[1] + steps[2])


def _kitty(picture: np.ndarray, columns: int) -> str:
    """A PNG (f=100), shown at once (a=T) over so many columns (c), with no answer wanted (q=2); m=1 but at the end."""
    data = io.BytesIO()
    Image.fromarray(_enlarged(picture, columns * CELL)).save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    parts = [encoded[start : start + CHUNK] for start in range(0, len(encoded), CHUNK)]
    commands = []
    for index, part in enumerate(parts):
        first = f"a=T,f=100,q=2,c={columns}," if index == 0 else ""
        commands.append(f"\x1b_G{first}m={int(index + 1 < len(parts))};{part}\x1b\\")
    return "".join(commands) + "\n"


def _sixel(picture: np.ndarray) -> str:
    """DEC's sixels: colours in hundredths, then bands six pixels high, one row of signs a colour, `!` for repeats."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = np.array(image.getpalette()).reshape(-1, 3)
    indices = np.asarray(image)
    used = np.unique(indices).tolist()
    head = "".join("#{};2;{};{};{}".format(i, *(palette[i] * 100 / 255).round().astype(int)) for i in used)
    bands = []
    for top in range(0, height, 6):
        band = indices[top : top + 6]
        bits = 1 << np.arange(len(band))[:, None]
        rows = [f"#{i}" + _repeated(((band == i) * bits).sum(axis=0).tolist()) for i in np.unique(band).tolist()]
        bands.append("$".join(rows) + "-")
    return f'\x1bP0;1;0q"1;1;{width};{height}{head}{"".join(bands)}\x1b\\\n'


def _repeated(column_bits: list[int]) -> str:
    text = ""
    for bits, group in groupby(column_bits):
        count, sign = len(list(group)), chr(63 + bits)
        text += f"!{count}{sign}" if count > 3 else sign * count
    return text


def _at_most(picture: np.ndarray, width: int) -> np.ndarray:
    """No wider than `width`; pixels are averaged."""
    height, before = picture.shape[:2]
    if before <= width:
        return picture
    size = (width, max(1, round(height * width / before)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _enlarged(picture: np.ndarray, width: int) -> np.ndarray:
    """As many whole times larger as fit into `width`."""
    scale = max(1, width // picture.shape[1])
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
