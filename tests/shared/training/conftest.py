"""A small data folder for all training tests: 12 pictures and 3 clips of the world."""

import json

import pytest

from shared.artifacts.media import write_clip, write_image
from world.dataset import draw_samples


def write_samples(folder, samples):
    """A data folder of stills, or of clips that lose nothing: folders of PNGs."""
    folder.mkdir(parents=True)
    lines = []
    for index, sample in enumerate(samples):
        name = f"{index}.png" if len(sample.pixels) == 1 else f"{index}"
        if len(sample.pixels) == 1:
            write_image(folder / name, sample.pixels[0])
        else:
            write_clip(folder / name, sample.pixels, 8)
        lines.append(json.dumps({"file": name, "caption": sample.caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_samples(root / "stills", list(draw_samples(12, kind="images", seed=1, size=32)))
    write_samples(root / "clips", list(draw_samples(3, kind="clips", seed=1, size=32)))
    return root
