"""Which files of a messy folder are trained on: bad ones are named and left out, and too many are refused."""

import numpy as np
import pytest

from shared.errors import InputError
from shared.training.data.arrays import load_media
from shared.training.data.groups import find_folders, read_data, reading
from tests.shared.training.messy import CLIPS, PICTURES, frames, picture, write_any_clip, write_messy


@pytest.fixture
def messy(tmp_path):
    return tmp_path / "data", write_messy(tmp_path / "data")


def test_bad_files_are_left_out_with_the_reason(messy):
    folder, bad = messy
    found = read_data(folder)
    assert [fault.file for fault in found.left_out] == list(bad)
    assert all(bad[fault.file] in fault.reason for fault in found.left_out)
    kinds = {group.kind: [entry["file"] for entry in group.entries] for group in found.groups}
    assert kinds["clip"] == [f"clips/{name}" for name in CLIPS]
    assert kinds["picture"][: len(PICTURES)] == list(PICTURES)  # a GIF of one frame is a picture
    assert found.refusal() is None
    assert found.entries == 44


def test_what_is_left_is_decoded_with_its_own_captions(messy):
    folder, _ = messy
    stills, clips = (load_media(group, size=24, frames=4) for group in find_folders(folder))
    assert len(stills.captions) == len(stills.pixels) == 40 - len(CLIPS)
    for index in range(len(PICTURES)):
        middle = picture(index)[:, 8:32].astype(int)
        assert np.abs(stills.pixels[index, 0] - middle).mean() < 12, PICTURES[index]
    for index in range(len(CLIPS)):
        chosen = frames(index)[[0, 2, 3, 5], :, 8:32].astype(int)
        assert np.abs(clips.pixels[index] - chosen).mean() < 14, CLIPS[index]
    assert clips.captions == [f"thing number {len(PICTURES) + i}" for i in range(len(CLIPS))]


def test_files_are_looked_at_once_until_they_change(messy, monkeypatch):
    folder, _ = messy
    first = read_data(folder)
    (folder / "b.jpg").write_bytes(b"no picture")
    later = read_data(folder)
    assert later.groups[1] == first.groups[1]
    assert {fault.file for fault in later.left_out} - {fault.file for fault in first.left_out} == {"b.jpg"}
    (folder / "gone.png").write_bytes(b"no picture")
    later = read_data(folder)
    monkeypatch.setattr("shared.training.data.inspection._see", None)  # nothing is looked at again
    assert read_data(folder) == later
    (folder / ".kinoform" / "files.json").write_text('{"version": 1, "files": 3}')
    monkeypatch.undo()
    assert read_data(folder) == later


@pytest.mark.parametrize(("bad", "refused"), [(4, False), (5, True), (40, True)])
def test_more_than_a_tenth_is_refused(tmp_path, bad, refused):
    write_messy(tmp_path / "data", broken=False)
    names = [entry["file"] for group in read_data(tmp_path / "data").groups for entry in group.entries]
    for name in [name for name in names if name != "clips/sequence"][:bad]:
        (tmp_path / "data" / name).write_bytes(b"")
    for file in (tmp_path / "data" / "clips" / "sequence").iterdir() if bad == 40 else ():
        file.write_bytes(b"")
    if not refused:
        assert sum(len(group.entries) for group in find_folders(tmp_path / "data")) == 40 - bad
        return
    with pytest.raises(InputError, match=rf"at most 10% .* got {bad} of 40\. Mend or remove them: .*\(an empty file\)"):
        find_folders(tmp_path / "data")


def test_progress_counts_every_file(messy):
    folder, _ = messy
    states = list(reading(folder))
    assert [state.step for state in states] == list(range(1, 45))
    assert {state.total for state in states} == {44}
    assert [state.data is None for state in states] == [True] * 43 + [False]


def test_a_clip_that_ends_early_is_bad(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    write_any_clip(tmp_path / "a.avi", np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8))
    assert read_data(tmp_path).groups[0].seen[0].frames == 40
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    (fault,) = read_data(tmp_path).left_out
    assert "cut short" in fault.reason
