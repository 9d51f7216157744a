"""What a failure is seen on: order, words, and true renders beside what came."""

from dataclasses import replace

import numpy as np

from benchmarks.truth.sheet import clips_sheet, pictures_sheet, said, true_clip, true_pictures, wrong_first
from world.prompt import Composition

CUBE, DUCK = Composition("cube", "red"), Composition("duck", "yellow", view="side view")


def test_wrong_ones_come_first_and_say_what_was_seen():
    assert wrong_first(np.array([True, False, True, False])) == [1, 3, 0, 2]
    assert said(CUBE, DUCK, False) == "a red cube -> a yellow duck, side view"
    assert said(CUBE, DUCK, True) == "a red cube: right"


def holds(sheet, picture, scale=1):
    """Whether a picture, enlarged, is somewhere on the sheet."""
    wanted = np.repeat(np.repeat(picture, scale, 0), scale, 1)
    height, width = wanted.shape[:2]
    views = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (height, width))
    places = np.argwhere((views[:, :, 0, :] == wanted[0, :, 0]).all(-1))
    return any((sheet[y : y + height, x : x + width] == wanted).all() for y, x in places)


def test_pictures_stand_beside_true_renders():
    made = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    sheet = pictures_sheet([CUBE, DUCK], [DUCK, DUCK], np.array([False, True]), made)
    for picture in (*made, *true_pictures([CUBE, DUCK], 16)):
        assert holds(sheet, picture, scale=2)


def test_clips_stand_over_true_renders():
    wanted = replace(CUBE, motion="left")
    made = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 16, 3), dtype=np.uint8)
    sheet = clips_sheet([wanted], [wanted], np.array([True]), made)
    for frames in (made[0], true_clip(wanted, 16, 16)):
        assert holds(sheet, frames[0])
        assert holds(sheet, frames[-1])


def test_a_true_clip_of_two_things_shows_both_standing_still():
    clip = true_clip(Composition("cube", "red", "still", None, "next to", "sphere", "blue"), 4, 48).astype(int)
    assert (clip == clip[0]).all()
    assert ((clip[0, ..., 0] - clip[0, ..., 2]) > 60).sum() > 50 < ((clip[0, ..., 2] - clip[0, ..., 0]) > 60).sum()


def test_true_renders_are_always_the_same():
    assert (true_pictures([DUCK], 16) == true_pictures([DUCK], 16)).all()
