"""The new object is in no catalogue and can be told from those that are; the benchmark runs from end to end."""

import numpy as np

from benchmarks.personalise import NAME, Judge, is_new, main, renders
from shared.artifacts.media import read_image
from world.prompt import OBJECT_NAMES


def test_true_renders_of_the_new_object_are_told_from_others():
    assert NAME not in OBJECT_NAMES
    judge = Judge()
    assert np.mean(is_new(judge.nearest(renders(NAME, 12, 5)))) > 0.8
    others = [renders(name, 1, 5) for name in OBJECT_NAMES]
    assert np.mean(is_new(judge.nearest(np.concatenate(others)))) < 0.1
    assert (renders("cone", 2, 0) == renders("cone", 2, 0)).all()
    assert (renders("cone", 2, 0) != renders("cone", 2, 1)).any()


def test_it_runs_on_the_embedded_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.personalise.MADE", 2)
    monkeypatch.setattr("benchmarks.personalise.OBJECT_NAMES", OBJECT_NAMES[:2])
    rows = main(["--out", str(tmp_path), "--stage", "textual-inversion", "--steps", "1"])
    assert [row.n for row in rows] == [2, 4, 2, 2, 2, 2, 1]
    assert "made of its name, nearest to it" in capsys.readouterr().out
    assert read_image(tmp_path / f"{NAME}.png").ndim == 3
