"""A small data folder for all training tests: 12 pictures and 3 clips of the world."""

import json

import numpy as np
import pytest

from shared.world.dataset import draw_samples


def write_cached(folder, samples):
    """A data folder whose media have been decoded already: no files but captions.jsonl and the cache."""
    folder.mkdir(parents=True)
    lines = [json.dumps({"file": f"{i}.png", "caption": s.caption}) for i, s in enumerate(samples)]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    np.save(folder / "pixels.npy", np.stack([s.pixels for s in samples]))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_cached(root / "stills", list(draw_samples(12, clips=False, seed=1, size=32)))
    write_cached(root / "clips", list(draw_samples(3, clips=True, seed=1, size=32)))
    return root
