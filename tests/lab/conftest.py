"""A tiny video model folder, made once."""

import pytest

from tests.video.tiny import build_video_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return build_video_folder(tmp_path_factory.mktemp("video") / "model")
