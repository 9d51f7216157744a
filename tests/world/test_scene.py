"""Arrangements touch and keep apart; motions go where their words say."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from shared.cameras import orbit
from world.mesh import scene_mesh
from world.prompt import MOTIONS, Composition
from world.render import render
from world.scene import (
    Instance,
    arrange,
    objects_by_name,
    random_clip,
    random_start,
    random_still,
    random_views,
    scene_distance,
    to_local,
)

STACKABLE = [o.name for o in objects_by_name().values() if o.pairs]


@functools.cache
def surface(name):
    return np.asarray(scene_mesh((Instance(name, "red"),), 48).vertices)


def placed(instance):
    return surface(instance.obj) * instance.scale + np.array(instance.position)


@pytest.mark.parametrize("relation", ["on top of", "next to"])
def test_pairs_touch_without_going_into_each_other_and_fit_the_ball(relation):
    for obj, other in itertools.permutations(STACKABLE, 2):
        c = Composition(obj, "red", relation=relation, other=other, other_colour="blue")
        first, second = arrange(c)
        a, b = placed(first), placed(second)
        assert first.scale == second.scale
        if relation == "on top of":
            assert a[:, 1].min() - b[:, 1].max() == pytest.approx(0, abs=0.045)
        else:
            assert b[:, 0].min() - a[:, 0].max() > -0.02  # the first is on the left in the front view
            assert a[:, 1].min() == pytest.approx(-0.5, abs=0.02)
            assert b[:, 1].min() == pytest.approx(-0.5, abs=0.02)
        inside_second = -scene_distance((second,), torch.tensor(a, dtype=torch.float32)).min()
        assert inside_second < 0.02, c.caption()
        assert max(np.linalg.norm(a, axis=1).max(), np.linalg.norm(b, axis=1).max()) < 1.2


def test_alone_an_object_is_at_the_origin():
    assert arrange(Composition("duck", "blue")) == (Instance("duck", "blue"),)


def test_to_local_undoes_scale_turn_and_place():
    instance = Instance("cube", "red", position=(0.4, -0.1, 0.2), scale=0.5, yaw=30)
    local = np.random.default_rng(0).normal(size=(50, 3))
    a = math.radians(30)  # yaw turns +z towards +x
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    world = local @ turn.T * 0.5 + np.array(instance.position)
    found = to_local(torch.tensor(world, dtype=torch.float32), instance)
    np.testing.assert_allclose(found.numpy(), local, atol=1e-5)


def test_scene_distance_is_in_world_units():
    instance = Instance("sphere", "red", position=(1.0, 0, 0), scale=0.5)
    p = torch.tensor([[3.0, 0, 0], [1.0, 0, 0]])
    torch.testing.assert_close(scene_distance((instance,), p)[:, 0], torch.tensor([1.6, -0.4]))


def test_views_are_where_their_words_say():
    rng = np.random.default_rng(0)
    for view, allowed in {
        "front view": lambda a, e: abs(a) <= 35 and 3 <= e <= 38,
        "side view": lambda a, e: 55 <= abs(a) <= 125 and 3 <= e <= 38,
        "back view": lambda a, e: 145 <= a <= 215 and 3 <= e <= 38,
        "overhead view": lambda a, e: 65 <= e <= 88,
    }.items():
        for _ in range(50):
            frame = random_still(Composition("car", "red", view=view), rng)
            assert allowed(frame.azimuth, frame.elevation)


@functools.cache
def track(motion, obj="duck", seed=0, size=32):
    """Mask's centre (right, up in pixels) and area in each of the 16 frames; and the pixels."""
    frames = random_clip(Composition(obj, "red", motion=motion), np.random.default_rng(seed))
    picture = render(frames, size)
    mask = picture.mask.double().numpy()
    area = mask.sum((1, 2))
    right = (mask.sum(1) @ np.arange(size)) / area
    up = -(mask.sum(2) @ np.arange(size)) / area
    return right, up, area, picture.pixels.numpy()


def test_there_are_sixteen_frames_and_unknown_motions_are_refused():
    assert len(random_clip(Composition("cube", "red", motion="up"), np.random.default_rng(0))) == 16
    with pytest.raises(ValueError, match="expected one of"):
        random_clip(Composition("cube", "red", motion="flying"), np.random.default_rng(0))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("motion", "sign"), [("right", 1), ("left", -1)])
def test_sideways(motion, sign, seed):
    right, up, _, _ = track(motion, seed=seed)
    inner = slice(3, -3)  # at both ends a part may be outside of the picture
    assert (sign * np.diff(right[inner]) > 0.3).all()
    assert np.ptp(up[inner]) < 1.5
    assert sign * (right[-1] - right[0]) > 8


def test_clips_from_a_picture_start_as_any_still_and_then_do_their_motion():
    sizes = set()
    for seed in range(20):
        frames = {
            m: random_start(Composition("duck", "red", motion=m), np.random.default_rng(seed), 5) for m in MOTIONS
        }
        assert len({taken[0].instances for taken in frames.values()}) == 1  # the start does not tell the motion
        at = {m: [frame.instances[0] for frame in taken] for m, taken in frames.items()}
        pose = frames["still"][0].cameras(1).camera_to_world[0].numpy()
        for motion, axis, sign in (("right", 0, 1), ("left", 0, -1), ("up", 1, 1), ("down", 1, -1)):
            way = np.diff([np.array(i.position) @ pose[:3, axis] for i in at[motion]])
            assert (sign * way > 0.15).all()
        assert np.diff([i.scale for i in at["growing"]]).min() > 0 > np.diff([i.scale for i in at["shrinking"]]).max()
        assert at["spinning"][-1].yaw == 360
        assert frames["orbit"][-1].azimuth == pytest.approx(frames["orbit"][0].azimuth + 200)
        assert len(set(at["still"])) == 1
        sizes.add(at["still"][0].scale)
    assert min(sizes) < 0.65 < 0.85 < max(sizes)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("motion", "sign"), [("up", 1), ("down", -1)])
def test_up_and_down(motion, sign, seed):
    right, up, _, _ = track(motion, seed=seed)
    inner = slice(3, -3)
    assert (sign * np.diff(up[inner]) > 0.3).all()
    assert np.ptp(right[inner]) < 1.5
    assert sign * (up[-1] - up[0]) > 8


@pytest.mark.parametrize(("motion", "sign"), [("growing", 1), ("shrinking", -1)])
def test_growth(motion, sign):
    right, up, area, _ = track(motion)
    assert (sign * np.diff(area) > 0).all()
    ratio = area[-1] / area[0]
    assert (ratio if sign > 0 else 1 / ratio) > 3
    assert np.ptp(right) < 2.5
    assert np.ptp(up) < 2.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bouncing_goes_up_and_down_twice_and_stays_in_its_column(seed):
    right, up, _, _ = track("bouncing", seed=seed)
    assert np.ptp(right) < 2
    assert np.ptp(up) > 5
    turns = np.diff(np.sign(np.diff(up)))
    assert (turns != 0).sum() >= 3


def test_every_hop_begins_and_ends_on_the_ground():
    ups = [track("bouncing", seed=seed)[1] for seed in (0, 1, 2)]
    for up in ups:
        lowest, highest = up.min(), up.max()
        ground, top = up[[0, 7, 8, 15]], up[[3, 4, 11, 12]]  # the clip's ends and middle, and halfway between
        assert (ground < lowest + 0.3 * (highest - lowest)).all()
        assert (top > highest - 0.1 * (highest - lowest)).all()


def test_still_is_still():
    _, _, _, pixels = track("still")
    assert (pixels == pixels[0]).all()


@pytest.mark.parametrize("motion", ["spinning", "orbit"])
def test_turning_changes_the_look_but_not_the_place(motion):
    right, up, _, pixels = track(motion)
    assert np.ptp(right) < 5
    assert np.ptp(up) < 5
    change = np.abs(np.diff(pixels.astype(float), axis=0)).mean((1, 2, 3))
    assert (change > 1).all()


def test_spinning_ends_where_it_began_and_an_orbit_does_not():
    for motion, returns in (("spinning", True), ("orbit", False)):
        _, _, _, pixels = track(motion)
        middle = np.abs(pixels[8].astype(float) - pixels[0]).mean()
        end = np.abs(pixels[-1].astype(float) - pixels[0]).mean()
        assert (end < 0.2 * middle) == returns


def test_every_motion_has_its_pixels():
    """No two motions of the same object make the same clip."""
    clips = {m: track(m)[3] for m in MOTIONS}
    for a, b in itertools.combinations(MOTIONS, 2):
        assert (clips[a] != clips[b]).any()


def test_the_light_of_views_stays_with_the_camera():
    frames = random_views(Composition("duck", "red"), np.random.default_rng(3), 8)
    seen = [
        orbit([frame.azimuth], [frame.elevation]).camera_to_world[0, :3, :3].T.numpy() @ frame.light for frame in frames
    ]
    assert np.ptp(np.stack(seen), axis=0).max() < 1e-5
