"""A tiny video model, and folders of pictures and of clips without captions."""

import numpy as np
import pytest

from shared.artifacts.media import write_clip, write_image
from tests.video.tiny import build_video_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(build_video_folder(tmp_path_factory.mktemp("concept") / "model"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for index in range(5):
        pixels = draw.integers(0, 256, (4, 4, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
        write_image(folder / f"{index}.png", pixels)
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    draw = np.random.default_rng(1)
    for index in range(3):
        pixels = draw.integers(0, 256, (5, 4, 4, 3)).astype(np.uint8).repeat(16, 1).repeat(16, 2)
        write_clip(folder / f"{index}.gif", pixels, 8)
    return folder
