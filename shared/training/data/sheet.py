"""A contact sheet of a data folder: pictures and strips of clips, each below its caption. No torch here."""

from __future__ import annotations

import textwrap

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.media import read_image
from shared.training.data.frames import open_frames
from shared.training.data.groups import DataFolder, Group

HEIGHT = 96  # of a picture on the sheet
WIDTH = 440  # of the sheet's columns
STRIP = 4  # frames of a clip
COLUMNS = {"picture": 6, "clip": 3, "view": 3, "start": 3}
LINES = 2  # of a caption


def data_sheet(data: DataFolder, count: int = 48) -> UInt8[np.ndarray, "h w 3"]:
    """The first `count` usable entries of every group of a data folder. KinoformError when there is none."""
    rows = []
    for group in data.groups:
        tiles = [_tile(group, index) for index in range(min(count, len(group.entries)))]
        columns = COLUMNS[group.kind]
        rows += [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return contact_sheet(rows)


def _tile(group: Group, index: int) -> np.ndarray:
    width = WIDTH if group.kind != "picture" else WIDTH * COLUMNS["clip"] // COLUMNS["picture"]
    letters = width // 9  # of the sheet's font
    lines = textwrap.wrap(
        group.entries[index]["caption"] or "(no caption)", letters, max_lines=LINES, placeholder="..."
    )
    lines += [""] * (LINES - len(lines))
    rows: list[list[np.ndarray]] = [[] for _ in lines[1:]]
    tile = contact_sheet([*rows, _pictures(group, index, width)], lines)
    whole = np.full((tile.shape[0], width, 3), 255, np.uint8)
    whole[:, : tile.shape[1]] = tile[:, :width]
    return whole


def _pictures(group: Group, index: int, width: int) -> list[np.ndarray]:
    path, seen = group.folder / group.entries[index]["file"], group.seen[index]
    if group.kind == "picture" and seen.kind == "picture":
        return [_small(read_image(path), width - 12)]
    wanted = sorted(set(np.linspace(0, seen.frames - 1, STRIP).round().astype(int).tolist()))
    with open_frames(path) as read:
        kept = [_small(frame(), width // STRIP - 8) for at, frame in enumerate(read.frames) if at in wanted]
    return kept


def _small(pixels: np.ndarray, width: int) -> np.ndarray:
    picture = Image.fromarray(pixels)
    scale = min(HEIGHT / picture.height, width / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return np.array(picture.resize(size, Image.Resampling.LANCZOS))
