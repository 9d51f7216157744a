import json
import subprocess
import sys

import pytest

from shared.models.image_model import load_image_model
from shared.models.made_for import MadeFor, frames_advice, made_for, size_advice, steps_advice
from shared.models.source import WORLD
from tests.video.tiny import build_video_folder

MODEL = MadeFor(width=64, height=64, factor=4, frames=16, timesteps=1000)


def test_it_is_what_the_loaded_model_says(tmp_path):
    folder = build_video_folder(tmp_path / "model")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "sample_size": [8, 12]}))
    for place in (WORLD, folder):
        model, read = load_image_model(place), made_for(place)
        assert (read.width, read.height) == model.own_size
        assert (read.factor, read.frames, read.timesteps) == (model.codec.factor, 16, model.schedule.num_timesteps)
    (folder / "temporal" / "config.json").unlink()
    assert made_for(folder).frames is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sample_size": "x"}', "[" * 100_000])
def test_a_folder_that_does_not_say_is_left_to_the_loader(tmp_path, text):
    assert made_for(tmp_path) is None
    folder = build_video_folder(tmp_path / "model")
    (folder / "unet" / "config.json").write_text(text)
    assert made_for(folder) is None


@pytest.mark.parametrize(
    ("width", "height", "right"),
    [
        (None, None, None), (64, 64, None), (96, 32, None), (None, 96, None),
        (256, 256, "96x96"), (100, 64, "96x64"), (28, 64, "32x64"), (8, 4096, "32x96"),
    ],
)  # fmt: skip
def test_sizes_far_from_the_models_own_are_told_with_the_nearest(width, height, right):
    told = size_advice(MODEL, width, height)
    if right is None:
        assert told is None
    else:
        assert "made for 64x64" in told
        assert f"{right} is the nearest" in told
        assert "\n" not in told
        assert size_advice(MODEL, *map(int, right.split("x"))) is None


def test_nearest_sizes_are_multiples_of_the_factor():
    model = MadeFor(width=72, height=40, factor=8, frames=None, timesteps=1000)
    assert "104x24 is the nearest" in size_advice(model, 512, 8)


def test_frames_count_by_what_the_network_sees_at_a_time():
    for frames, window in ((1, None), (16, None), (24, None), (64, 16), (64, 24)):
        assert frames_advice(MODEL, frames, window) is None
    assert "window 16" in frames_advice(MODEL, 25, None)
    assert "made for 16" in frames_advice(MODEL, 64, 32)
    assert frames_advice(MadeFor(64, 64, 4, None, 1000), 64, None) is None


def test_few_and_impossible_steps_are_told():
    assert [steps_advice(MODEL, steps) for steps in (4, 20, 1000)] == [None, None, None]
    assert "20 is usual" in steps_advice(MODEL, 3)
    assert "1000" in steps_advice(MODEL, 1001)


def test_it_takes_no_torch():
    code = "import sys, shared.models.made_for; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
