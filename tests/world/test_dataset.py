"""Draws are the same whenever and wherever they are made, and what is written is what was drawn."""

import json

import numpy as np
import pytest

from shared.artifacts.media import read_image
from shared.training.data.arrays import load_media
from world.dataset import describe, draw_samples, write_dataset
from world.prompt import KINDS, Composition


def test_the_same_seed_gives_the_same_pixels_and_another_does_not():
    first, again, other = (list(draw_samples(4, kind="images", seed=s, size=24)) for s in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert a.caption == b.caption
        assert a.frames == b.frames
        assert (a.pixels == b.pixels).all()
    assert any(a.frames != b.frames for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_start_gives_the_same_samples(kind):
    count, size = (7, 24) if kind == "images" else (3, 16)
    all_of_them = list(draw_samples(count, kind=kind, seed=11, size=size))
    tail = list(draw_samples(count - 2, kind=kind, seed=11, size=size, first=2))
    assert all_of_them[0].pixels.shape == (1 if kind == "images" else 16, size, size, 3)
    for a, b in zip(all_of_them[2:], tail, strict=True):
        assert (a.composition, a.caption, a.frames) == (b.composition, b.caption, b.frames)
        assert np.abs(a.pixels.astype(int) - b.pixels).max() <= 1  # other batches, other rounding


def test_stills_and_clips_and_splits_are_different_sequences():
    def captions(**changes):
        return [s.caption for s in draw_samples(6, **{"kind": "images", "seed": 0, "size": 8, **changes})]

    assert captions() != captions(kind="clips")
    assert captions() != captions(split="all")


def test_files_hold_what_was_drawn(tmp_path):
    done = list(write_dataset(tmp_path, 3, kind="images", seed=5, size=32))
    assert done == [3]
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    for line, sample in zip(lines, draw_samples(3, kind="images", seed=5, size=32), strict=True):
        assert (read_image(tmp_path / line["file"]) == sample.pixels[0]).all()
        assert Composition.parse(line["caption"]) == sample.composition
        assert line == {"file": line["file"], **describe(sample)}
        assert (line["obj"], line["colour"]) == (sample.composition.obj, sample.composition.colour)


def test_any_number_of_processes_writes_the_same_files(tmp_path):
    for name, jobs in (("one", 1), ("two", 2)):
        done = list(write_dataset(tmp_path / name, 130, kind="images", seed=5, size=8, jobs=jobs))
        assert done == [128, 130]
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / n).rglob("*") if f.is_file()} for n in ("one", "two"))
    assert len(one) == 131
    assert one == two


def test_clips_survive_their_compression(tmp_path):
    list(write_dataset(tmp_path, 1, kind="clips", seed=5, size=64))
    media = load_media(tmp_path)
    sample = next(draw_samples(1, kind="clips", seed=5, size=64))
    assert media.captions == [sample.caption]
    assert media.pixels.shape == (1, 16, 64, 64, 3)
    difference = np.abs(media.pixels[0].astype(int) - sample.pixels)
    assert difference.mean() < 4


def test_clips_that_start_from_a_picture_say_so(tmp_path):
    list(write_dataset(tmp_path, 2, kind="starts", seed=5, size=64, frames=4))
    media = load_media(tmp_path, frames=4)
    assert media.starts
    assert media.captions == [sample.caption for sample in draw_samples(2, kind="starts", seed=5, size=64, frames=4)]


def test_views_go_all_around_and_are_read_with_their_cameras(tmp_path):
    list(write_dataset(tmp_path, 2, kind="views", seed=5, size=64, frames=12))
    samples = list(draw_samples(2, kind="views", seed=5, size=64, frames=12))
    media = load_media(tmp_path)
    assert media.pixels.shape == (2, 12, 64, 64, 3)
    assert media.captions == [sample.caption for sample in samples]
    for cameras, sample in zip(media.cameras, samples, strict=True):
        azimuth, elevation = cameras.T.tolist()
        assert azimuth == pytest.approx([frame.azimuth for frame in sample.frames], abs=1e-3)
        assert np.diff(azimuth) == pytest.approx([30.0] * 11, abs=2e-3)
        assert len(set(elevation)) == 1
        assert sample.composition.motion is sample.composition.view is None
        assert len({frame.instances for frame in sample.frames}) == 1
