"""The benchmark beside AnimateDiffPipeline, whole, on tiny networks and pictures."""

import json
from dataclasses import replace

import pytest

from benchmarks import video_peers


def test_both_sides_make_the_same_frames_and_are_measured(monkeypatch, capsys):
    tiny = replace(video_peers.CASES["tiny"], timed=32, held=32)
    monkeypatch.setattr(video_peers, "CASES", {"tiny": tiny})
    monkeypatch.setattr(video_peers, "FRAMES", 2)
    monkeypatch.setattr("sys.argv", ["video_peers", "--repeats", "1", "--json"])
    assert video_peers.main() == 0
    *ratios, held, apart = json.loads(capsys.readouterr().out)["rows"]
    assert 0 <= apart["value"] < 1e-4
    assert "deviation is 0.0" not in apart["metric"]
    assert all(row["value"] > 0 for row in ratios)
    assert held["value"] != pytest.approx(0)
