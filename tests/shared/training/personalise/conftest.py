"""A tiny model, and a folder of pictures without captions."""

import numpy as np
import pytest

from shared.artifacts.media import write_image
from tests.tiny import build_image_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(build_image_folder(tmp_path_factory.mktemp("concept") / "model"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for index in range(5):
        pixels = draw.integers(0, 256, (4, 4, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
        write_image(folder / f"{index}.png", pixels)
    return folder
