"""Small pictures of what is under way: for a terminal, and for a file that an editor keeps open."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

FILE_WIDTH = 256  # pixels that a file's picture is enlarged to, at least
COLUMNS = 40  # of the finished picture in a terminal


class Preview:
    """Asked after every step, it looks every `seconds` at what there is, if anybody can see it.

    file: a PNG, replaced whole each time. The terminal is the one that stderr goes to. Raises InputError for a file
    that could not be written.
    """

    def __init__(self, file: str | None = None, seconds: float = 1.0) -> None:
        from lab.show.terminal_picture import detect
        from shared.artifacts.files import check_writable

        if file is not None:
            check_writable(file, (".png",))
        self.file = file
        self.seconds = seconds
        self.protocol = detect(os.environ, sys.stderr.isatty())
        # Below the bar it is always half blocks: pictures of real pixels would not go when the bar is drawn anew.
        self._live = self.protocol is not None and (sys.stderr.encoding or "").lower().startswith("utf")
        self._next = float("-inf")

    def update(self, picture: Callable[[], UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h w 3"] | None:
        """What to show below the bar now; None for nothing new. Calls `picture` only where it is shown or written.

        Raises KinoformError where the file cannot be written any more.
        """
        if not (self._live or self.file is not None) or time.perf_counter() < self._next:
            return None
        made = picture()
        self._write(made)
        self._next = time.perf_counter() + self.seconds
        return made if self._live else None

    def finished(self, pictures: Callable[[], Sequence[np.ndarray]]) -> None:
        """Leave a job's result in the file, as its small pictures. Raises KinoformError as `update`."""
        if self.file is not None:
            from shared.artifacts.contact_sheet import tiled

            self._write(tiled(pictures()))

    def closing(self, pictures: Callable[[], Sequence[np.ndarray]]) -> str:
        """What to print so that a terminal with real pixels shows a result; empty for another."""
        from lab.show.terminal_picture import draw
        from shared.artifacts.contact_sheet import tiled

        if self.protocol not in ("kitty", "sixel"):
            return ""
        columns = min(COLUMNS, os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS)
        return draw(tiled(pictures()), columns=columns, protocol=self.protocol)

    def _write(self, picture: np.ndarray) -> None:
        from shared.artifacts.formats.image_file import write_image

        if self.file is not None:
            scale = -(-FILE_WIDTH // picture.shape[1])
            write_image(self.file, picture.repeat(scale, axis=0).repeat(scale, axis=1))
