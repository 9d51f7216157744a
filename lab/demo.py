"""`make demo`: the main job on the embedded model, by a user's own commands, and one sheet of all results."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from lab.main import main as kinoform

CLIPS = ("a red ball bouncing", "a yellow duck moving right", "a green car spinning")
ASSETS = ("a red mushroom", "a red cone next to a cyan ball")
SHEET_FRAMES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description="Clips and assets from the embedded model, and a contact sheet.")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    clips = {prompt: out / f"{_slug(prompt)}.mp4" for prompt in CLIPS}
    turntables = {prompt: out / f"{_slug(prompt)}-turntable.mp4" for prompt in ASSETS}
    commands = [["clip", prompt, "-o", str(path)] for prompt, path in clips.items()]
    for prompt, path in turntables.items():
        commands.append(["asset", prompt, "-o", str(out / f"{_slug(prompt)}.glb"), "--turntable", str(path)])
    for command in commands:
        print(f"$ {shlex.join(['kinoform', *command])}", flush=True)
        code = kinoform(command)
        if code:
            return code
    sheet = _contact_sheet({**clips, **turntables}, out / "contact-sheet.png")
    print(f"done in {time.monotonic() - started:.0f} s: results are in {out}/, all of them on one page in {sheet}")
    return 0


def _contact_sheet(videos: dict[str, Path], path: Path) -> Path:
    """Frames of every video, evenly in time, a row each."""
    from shared.artifacts.contact_sheet import contact_sheet
    from shared.artifacts.media import read_clip, write_image

    rows = []
    for video in videos.values():
        frames = read_clip(video).frames
        chosen = frames[np.linspace(0, len(frames) - 1, SHEET_FRAMES).round().astype(int)]
        zoom = 192 // chosen.shape[1]
        rows.append([frame.repeat(zoom, axis=0).repeat(zoom, axis=1) for frame in chosen])
    write_image(path, contact_sheet(rows, list(videos)))
    return path


def _slug(prompt: str) -> str:
    return "-".join(prompt.split())


if __name__ == "__main__":
    sys.exit(main())
