"""The check of a model on own clips: what is left out, how captions are found, and that it runs on a real folder."""

import json

import numpy as np
import pytest
import torch

from benchmarks.own_data import held_out, main, motion, pixels_alike, ranks
from shared.artifacts.formats.image_file import read_image
from shared.artifacts.media import read_clip, write_clip
from shared.errors import InputError
from shared.training.clip_scorer import build, save_image_encoder
from shared.training.recipe import ScorerTrainRecipe
from tests.video.tiny import build_video_folder, write_clips


def grey_clip(levels):
    return np.stack([np.full((48, 64, 3), level, np.uint8) for level in levels])


def test_the_split_and_the_frames_left_out_share_none(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    levels = list(range(20, 220, 25))
    for name in ("a", "b"):
        write_clip(data / f"{name}.mp4", grey_clip(levels), 8)
        (data / f"{name}.txt").write_text(f"a grey {name}")
    main(["split", "--data", str(data), "--out", str(tmp_path / "train")])
    lines = [json.loads(line) for line in (tmp_path / "train" / "captions.jsonl").read_text().splitlines()]
    assert [line["caption"] for line in lines] == ["a grey a", "a grey b"]
    trained = read_clip(tmp_path / "train" / lines[0]["file"]).frames
    left = held_out(data / "a.mp4", 32)
    assert left.shape == (2, 32, 32, 3)
    assert [round(float(frame.mean()), -1) for frame in (*trained, *left)] == pytest.approx(
        [round(level, -1) for level in levels], abs=10
    )


def test_ranks_count_who_comes_before():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.3, 0.4, 0.4]])
    assert ranks(similarity) == [0, 2, 1]  # an equal one counts against


def test_pixels_find_the_clip_that_looks_alike_and_motion_is_in_levels():
    dark, light = grey_clip([20, 30]), grey_clip([200, 210])
    near = pixels_alike([light, dark], [dark + 3, light - 3])
    assert near.argmax(dim=1).tolist() == [1, 0]
    assert motion(dark) == 10


def test_it_runs_on_a_model_folder(tmp_path, capsys):
    data, model = write_clips(tmp_path / "data"), build_video_folder(tmp_path / "model")
    torch.manual_seed(0)
    save_image_encoder(model / "image_encoder", build(ScorerTrainRecipe(image_width=32, image_layers=1), 64, 32))
    main(["check", "--data", str(data), "--model", str(model), "--out", str(tmp_path / "o"), "--steps", "1", "--json"])
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert len(rows) == 10
    assert all(row["n"] in (4, 12) and np.isfinite(row["value"]) for row in rows.values())
    assert read_image(tmp_path / "o" / "clips.png").shape[1] >= 4 * 64
    assert read_image(tmp_path / "o" / "strips.png").shape[0] > 4 * 64


def test_one_caption_cannot_be_told_from_others(tmp_path):
    data = write_clips(tmp_path / "data")
    index = data / "captions.jsonl"
    index.write_text(index.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="two captions or more"):
        main(["split", "--data", str(data), "--out", str(tmp_path / "train")])
