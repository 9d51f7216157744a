"""The judge's answers, and that roughening never changes what is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.judge import Judge, Verdict, as_asked, judge_clips, same_pair, same_thing
from benchmarks.truth.judge_networks import HEADS, MotionNetwork, PictureNetwork
from benchmarks.truth.judge_training import (
    UNKNOWN,
    Budget,
    labels,
    picture_loss,
    render_frames,
    roughen,
    roughen_clips,
    train_pictures,
)
from shared.errors import InputError, ModelError
from world.prompt import MOTIONS, Composition

RED_CUBE = Composition("cube", "red")
PAIR = Composition("cube", "red", None, None, "next to", "cone", "blue")
STACK = Composition("duck", "white", None, None, "on top of", "torus", "black")


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Judge(PictureNetwork(), MotionNetwork())


def certain(*compositions):
    """A verdict that is quite sure of these."""
    answers = labels(list(compositions)).clamp(min=0)
    columns = {}
    for (name, size), wanted in zip(HEADS.items(), answers.T, strict=True):
        p = np.full((len(compositions), size), 0.1 / (size - 1), np.float32)
        p[np.arange(len(p)), wanted] = 0.9
        columns[name] = p
    return Verdict(**columns)


def test_labels_and_names_are_inverse():
    assert labels([RED_CUBE]).tolist() == [[1, 0, 0, UNKNOWN, UNKNOWN]]
    assert certain(RED_CUBE, PAIR, STACK).named() == [RED_CUBE, PAIR, STACK]


def test_right_and_wrong():
    bluish = Composition("cube", "blue")
    assert same_thing([RED_CUBE, RED_CUBE], [RED_CUBE, bluish]).tolist() == [True, False]
    seen = Composition("cone", "blue", None, None, "next to", "cube", "red")
    assert same_pair([PAIR, PAIR, PAIR], [PAIR, seen, RED_CUBE]).tolist() == [True, False, False]


def test_what_was_asked_is_one_thing_or_two_whatever_moves():
    one = Composition("cube", "red", motion="left")
    two = Composition("cube", "red", "still", None, "on top of", "sphere", "blue")
    assert as_asked([one, two, one], [replace(one, motion=None), replace(two, motion=None), two]).tolist() == [
        True,
        True,
        False,
    ]
    assert not as_asked([two, two], [Composition("cube", "red"), replace(two, motion=None, other="cone")]).any()


def test_merging_is_the_product_of_probabilities():
    a, b = certain(RED_CUBE, Composition("cone", "red")), certain(RED_CUBE)
    both = Verdict(**{k: np.concatenate([vars(a)[k], vars(b)[k]]) for k in HEADS})
    merged = both.merged([[0, 1, 2], [1]])
    assert [c.obj for c in merged.named()] == ["cube", "cone"]
    expected = both.obj[0] * both.obj[1] * both.obj[2]
    np.testing.assert_allclose(merged.obj[0], expected / expected.sum(), rtol=1e-3, atol=1e-5)


def test_weights_survive_their_file(judge, tmp_path):
    judge.save(tmp_path / "j.safetensors")
    assert (tmp_path / "j.safetensors").stat().st_size < 3_000_000
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    again = Judge.load(tmp_path / "j.safetensors")
    np.testing.assert_allclose(again.look(pictures).obj, judge.look(pictures).obj, atol=5e-3)
    with pytest.raises(ModelError, match="--train"):
        Judge.load(tmp_path / "none.safetensors")


def test_answers_do_not_depend_on_the_batch(judge):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    np.testing.assert_allclose(judge.look(pictures).obj[3], judge.look(pictures[3:4]).obj[0], atol=1e-5)


def test_clips_are_judged_whole_in_windows_and_by_frame(judge):
    clips = np.random.default_rng(0).integers(0, 256, (2, 16, 32, 32, 3), dtype=np.uint8)
    verdict = judge_clips(judge, [Composition("cube", "red", motion="up")] * 2, clips)
    assert verdict.frames.shape == (2, 16)
    assert verdict.motion.shape == verdict.thing.shape == verdict.every_window.shape == (2,)
    with pytest.raises(InputError, match="16 frames"):
        judge.watch(clips[:, :8])


def marked(x, y, size=64):
    picture = torch.full((1, 3, size, size), 0.5)
    picture[0, :, y - 3 : y + 3, x - 3 : x + 3] = 1.0
    return picture


def centre(picture):
    weight = (picture.mean(0) - 0.5).clamp(min=0.15) - 0.15
    y, x = torch.meshgrid(*[torch.arange(s) for s in weight.shape], indexing="ij")
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def test_a_mirror_swaps_things_next_to_each_other_and_only_those():
    """A mark on the first thing, at the left: wherever it is afterwards tells who is first now."""
    answers = labels([PAIR] * 200)
    pixels, wanted = roughen(marked(16, 32).expand(200, 3, 64, 64), answers, torch.Generator().manual_seed(0))
    left = torch.tensor([centre(p)[0] < 32 for p in pixels])
    unchanged = (wanted == answers).all(dim=1)
    assert 60 < int(left.sum()) < 140
    assert (unchanged == left).float().mean() > 0.98
    assert wanted[~unchanged][0].tolist() == [*answers[0, 3:].tolist(), 2, *answers[0, :2].tolist()]
    for single in (RED_CUBE, STACK):
        answers = labels([single] * 20)
        _, wanted = roughen(marked(16, 32).expand(20, 3, 64, 64), answers, torch.Generator().manual_seed(0))
        assert torch.equal(wanted, answers)


def test_top_stays_on_top():
    pixels, _ = roughen(marked(32, 16).expand(60, 3, 64, 64), labels([STACK] * 60), torch.Generator().manual_seed(1))
    assert all(centre(p)[1] < 32 for p in pixels)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def moving_square(motion):
    """16 frames of a bright square: "t 3 h w"."""
    frames = torch.full((16, 3, 32, 32), 0.3)
    for t in range(16):
        x, y, half = 16, 16, 4
        if motion == "left":
            x = 26 - t * 20 // 15
        if motion == "up":
            y = 26 - t * 20 // 15
        if motion == "growing":
            half = 3 + t // 2
        frames[t, :, y - half : y + half, x - half : x + half] = 0.9
    return frames


def seen_motion(frames):
    weight = (frames.mean(1) - 0.55).clamp(min=0)
    area = weight.sum((1, 2))
    x = (weight.sum(1) @ torch.arange(32.0)) / area
    y = (weight.sum(2) @ torch.arange(32.0)) / area
    if area.max() > 2 * area.min():
        return "growing" if area[-1] > area[0] else "shrinking"
    if abs(x[-1] - x[0]) > 8:
        return "left" if x[-1] < x[0] else "right"
    return "up" if y[-1] < y[0] else "down"


@pytest.mark.parametrize("motion", ["left", "up", "growing"])
def test_a_motions_name_follows_it_through_mirror_and_time(motion):
    names = list(MOTIONS)
    clips = moving_square(motion).expand(40, 16, 3, 32, 32)
    frames, wanted = roughen_clips(clips, torch.full((40,), names.index(motion)), torch.Generator().manual_seed(0))
    told = [names[i] for i in wanted.tolist()]
    assert told == [seen_motion(f) for f in frames]
    assert len(set(told)) == 2


def test_turning_clips_are_neither_mirrored_nor_reversed():
    names = list(MOTIONS)
    clips = moving_square("left").expand(20, 16, 3, 32, 32)  # a stand-in whose direction can be seen
    frames, wanted = roughen_clips(clips, torch.full((20,), names.index("spinning")), torch.Generator().manual_seed(0))
    assert set(wanted.tolist()) == {names.index("spinning")}
    assert {seen_motion(f) for f in frames} == {"left"}


def test_questions_without_an_answer_do_not_count():
    network = PictureNetwork()
    pixels = torch.rand(4, 3, 64, 64)
    picture_loss(network.eval(), pixels, labels([RED_CUBE] * 4)).backward()
    assert network.heads["other"].weight.grad is None or not network.heads["other"].weight.grad.any()
    assert network.heads["obj"].weight.grad.any()


def test_it_learns_what_it_is_shown():
    """Two colours, flat pictures: a few steps tell them apart."""
    levels = {"red": (220, 20, 20), "blue": (30, 40, 220)}
    pixels = torch.stack([torch.tensor(levels[c], dtype=torch.uint8).expand(64, 64, 3) for c in ("red", "blue")] * 8)
    answers = labels([Composition("cube", "red"), Composition("cube", "blue")] * 8)
    network = PictureNetwork(widths=(8, 8, 16, 16))
    states = list(train_pictures(network, pixels, answers, Budget(picture_steps=40, batch=16)))
    assert states[-1].loss < 0.35 * states[0].loss
    found = Judge(network, MotionNetwork()).look(pixels[:2].numpy()).named()
    assert [f.colour for f in found] == ["red", "blue"]


def test_frames_of_clips_keep_their_compositions():
    pixels, compositions = render_frames(0)
    assert len(pixels) == len(compositions) == 48
    assert compositions[0] == compositions[2] != compositions[3]
