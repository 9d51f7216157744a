"""What a network hears: of conditions that count, and of one that was made not to."""

import pytest
import torch

from benchmarks.heard import NOISE, main, table
from tests.video.tiny import build_video_folder
from video.generate import load_video_model

CAMERAS = "cameras: the mirrored ones"


@pytest.fixture
def model(tmp_path):
    """Its layers know of cameras, and are loud."""
    loaded = load_video_model(build_video_folder(tmp_path / "model", cameras=True))
    temporal = loaded.network.temporal
    for name, parameter in temporal.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(0.5)
    temporal.embedding.camera.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    return loaded


def test_what_is_unheard_moves_nothing_and_what_is_heard_moves_it(model):
    rows = dict(table(model, ["a red cube", "a blue ball"]))
    assert all(len(values) == len(NOISE) for values in rows.values())
    assert all(min(values) > 1e-4 for values in rows.values()), rows
    model.network.temporal.embedding.camera.weight.data.zero_()
    deaf = dict(table(model, ["a red cube", "a blue ball"]))
    assert deaf.pop(CAMERAS) == [0.0] * len(NOISE)
    assert deaf == {what: pytest.approx(rows[what], rel=0.5) for what in deaf}


def test_conditions_that_layers_know_nothing_of_are_no_rows(tmp_path, capsys):
    folder = build_video_folder(tmp_path / "plain")
    assert main(["--model", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "moments" in printed
    assert "cameras" not in printed
    assert main(["--model", str(tmp_path / "none")]) == 2
