"""How far a picture is to be extended on its sides, as a recipe says it. Imports no torch."""

from __future__ import annotations

import re
from typing import NamedTuple

MOST = 4096
SIDE = re.compile(r"(left|right|top|bottom)=([0-9]{1,4})")
WANTED = "left, right, top or bottom with pixels, such as left=64,top=32"


class Borders(NamedTuple):
    """Pixels on each side."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


def parse_borders(text: str) -> Borders:
    """ "left=64,top=32". Raises ValueError, for pydantic."""
    found: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        match = SIDE.fullmatch(part)
        if match is None or match[1] in found:
            raise ValueError(WANTED)
        found[match[1]] = int(match[2])
    if not any(found.values()) or max(found.values()) > MOST:
        raise ValueError(WANTED)
    return Borders(**found)
