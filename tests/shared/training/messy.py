"""A folder as users have it: every format of pictures and clips, some of them broken. Real files."""

import json

import av
import numpy as np
from PIL import Image

from shared.artifacts.media import write_clip, write_image

SHAPE = (24, 40, 3)
PICTURES = ("a.png", "b.jpg", "c.jpeg", "d.webp", "e.bmp", "f.tif", "g.gif", "h.jfif")
CLIPS = ("a.mp4", "b.webm", "c.gif", "d.mov", "e.mkv", "f.avi", "g.webp", "h.png", "sequence")
FRAMES = 6


def picture(index):
    """A gradient of its own, with a mark where it begins."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    levels = np.stack([(5 * x + 40 * index) % 200, 8 * y, np.full_like(x, 20 * (index % 12))], -1).astype(np.uint8)
    levels[:8, :8] = (250, 250, 0)
    return levels


def frames(index):
    return np.stack([np.roll(picture(index), 3 * t, 1) for t in range(FRAMES)])


def write_any_clip(path, pixels, fps=8):
    """In every format that is read, also those that Kinoform does not write."""
    if path.suffix in (".mp4", ".webm", ".gif", ""):
        write_clip(path, pixels, fps)
    elif path.suffix in (".webp", ".png"):
        first, *rest = (Image.fromarray(frame) for frame in pixels)
        lossless = {"lossless": True} if path.suffix == ".webp" else {}
        first.save(path, save_all=True, append_images=rest, duration=1000 // fps, **lossless)
    else:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4" if path.suffix == ".avi" else "libx264", rate=fps)
            stream.height, stream.width = pixels.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = 4_000_000
            for frame in pixels:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode(None))


def write_messy(folder, *, broken=True):
    """A mix of pictures and clips, with captions.jsonl; of broken ones a few. Returns the names of those."""
    folder.mkdir(parents=True)
    for index, name in enumerate(PICTURES):
        if name.endswith((".png", ".jpg", ".jpeg", ".webp")):
            write_image(folder / name, picture(index))
        else:
            Image.fromarray(picture(index)).save(folder / name)
    for index, name in enumerate(CLIPS):
        (folder / "clips").mkdir(exist_ok=True)
        write_any_clip(folder / "clips" / name, frames(index))
    names = [*PICTURES, *(f"clips/{name}" for name in CLIPS)]
    for index in range(40 - len(names)):  # so that the broken ones are few
        write_image(folder / f"more{index}.png", picture(index + 20))
        names.append(f"more{index}.png")
    bad = {}
    if broken:
        whole = (folder / "a.png").read_bytes()
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        (folder / "empty.png").touch()
        (folder / "cut.mp4").write_bytes((folder / "clips" / "a.mp4").read_bytes()[:700])
        bad = {"cut.png": "cut short", "empty.png": "empty", "cut.mp4": "damaged", "gone.png": "not there"}
    lines = [json.dumps({"file": name, "caption": f"thing number {i}"}) for i, name in enumerate([*names, *bad])]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return bad
