"""Small pictures of what is under way: for a terminal, and for a file that an editor keeps open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Preview:
    def __init__(self, file: str | None = None, seconds: float = 1.0) -> None:
        self.file = file
        self.seconds = seconds
        self._shown = float("-inf")

    def update(self, picture: Callable[[], np.ndarray]) -> np.ndarray | None:
        return None
