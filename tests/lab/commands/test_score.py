"""`kinoform score` against the scorer itself."""

import json

import numpy as np
import pytest
import torch

from lab.main import main
from shared.artifacts.media import read_clip, write_clip, write_image
from shared.models.clip_scorer import ClipScorer
from shared.training.clip_scorer import build, save_image_encoder
from shared.training.recipe import ScorerTrainRecipe
from tests.lab.command import is_refusal
from tests.tiny import build_image_folder


@pytest.fixture(scope="module")
def scorer_folder(tmp_path_factory):
    path = build_image_folder(tmp_path_factory.mktemp("scorer"))
    torch.manual_seed(0)
    encoder = build(ScorerTrainRecipe(image_width=32, image_layers=1), image_size=32, embedding=32)
    save_image_encoder(path / "image_encoder", encoder)
    return path


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_the_score_of_a_clip(scorer_folder, frames, tmp_path, capsys, name):
    file = tmp_path / name
    write_clip(file, frames, 8)
    arguments = ["score", str(file), "--prompt", "a red cube", "--model", str(scorer_folder)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = ClipScorer.from_folder(scorer_folder).score(read_clip(file).frames, "a red cube")
    assert result["score"] == pytest.approx(expected, abs=1e-6)
    assert main(arguments) == 0
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)


def test_the_score_of_a_picture(scorer_folder, frames, tmp_path, capsys):
    file = tmp_path / "picture.png"
    write_image(file, frames[0])
    assert main(["score", str(file), "--prompt", "a red cube", "--model", str(scorer_folder)]) == 0
    expected = ClipScorer.from_folder(scorer_folder).score(frames[:1], "a red cube")
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)


def test_a_model_without_an_image_encoder_is_one_line(model, frames, tmp_path, capsys):
    file = tmp_path / "picture.png"
    write_image(file, frames[0])
    code = main(["score", str(file), "--prompt", "a red cube", "--model", str(model)])
    assert is_refusal(code, capsys.readouterr().err, "image_encoder")
