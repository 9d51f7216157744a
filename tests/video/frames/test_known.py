"""Frames that are given: what the network is told of them, and clips that begin and end with pictures."""

import numpy as np
import pytest
import torch

from shared.artifacts.media import write_image
from shared.artifacts.pixels import from_uint8
from shared.errors import InputError, ModelError
from shared.rng import generator
from tests.near import near
from tests.tiny import tiny_unet
from tests.video.tiny import build_video_folder
from tests.video.unets import UNETS, added, inputs
from video.frames.given import known_of
from video.frames.known import drawn, told
from video.generate import generate_clip, generate_clips, load_video_model
from video.network import TemporalLayers, VideoUNet
from video.recipe import ClipRecipe
from video.tasks import interpolate, predict

RECIPE = {"prompt": "a red cube moving left", "frames": 5, "steps": 3, "width": 32, "height": 32}
RED, BLUE = (np.full((32, 32, 3), colour, np.uint8) for colour in ((220, 30, 30), (30, 30, 220)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_video_folder(tmp_path_factory.mktemp("known") / "model", known=0.3)


@pytest.fixture(scope="module")
def model(folder):
    return load_video_model(folder)


def clip(model, given=None, **changes):
    *_, last = generate_clips(model, [ClipRecipe.parse({**RECIPE, **changes})], given=given)
    return last


def test_told_are_latents_and_a_mask_frame_by_frame():
    latents = torch.randn(4, 4, 6, 5, 6)
    given = torch.tensor([[0, 1, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    known = told(latents, given)
    assert known.shape == (4, 6, 5, 5, 6)
    for b in range(4):
        places = given[b].nonzero()[:, 0].numpy()
        for t in range(6):
            wanted = torch.zeros(4, 5, 6)
            for i, place in enumerate(places):  # numpy's own linear interpolation, constant beyond both ends
                wanted += latents[b, :, place] * float(np.interp(t, places, np.eye(len(places))[i]))
            torch.testing.assert_close(known[b, t, :4], wanted)
            assert torch.equal(known[b, t, 4], torch.full((5, 6), float(given[b, t])))


def test_training_gives_the_first_frame_or_both_ends_or_a_beginning_in_the_wanted_shares():
    given = torch.cat([drawn([0.5] * 4, 8, generator(0, step)) for step in range(500)])
    some = given[given.any(dim=1)]
    assert len(some) / len(given) == pytest.approx(0.5, abs=0.03)
    assert some[:, 0].all()
    assert float(some[:, -1].float().mean()) == pytest.approx(0.4, abs=0.04)
    count = some.sum(dim=1)
    ends = some[:, -1]
    assert (count[ends] == 2).all()
    begun = some[~ends]
    assert set(begun.sum(dim=1).tolist()) == {1, 2, 3, 4}
    assert all(row[: int(n)].all() and not row[int(n) :].any() for row, n in zip(begun, begun.sum(dim=1), strict=True))
    assert not drawn([0.0] * 64, 8, generator(0)).any()


@torch.no_grad()
@pytest.mark.parametrize("shape", UNETS.values(), ids=UNETS)
def test_new_layers_that_hear_of_given_frames_change_nothing_and_trained_ones_do(shape):
    unet = tiny_unet(**shape).requires_grad_(False)
    x, t, tokens = inputs()
    more = added(unet.config)
    plain = VideoUNet(unet, TemporalLayers.for_unet(unet, embed_dim=32)).eval()(x, t, tokens, added_cond_kwargs=more)
    network = VideoUNet(unet, TemporalLayers.for_unet(unet, embed_dim=32, known=True)).eval()
    known = told(x, torch.tensor([[True, False, False]] * 2))
    assert torch.equal(network(x, t, tokens, None, known, added_cond_kwargs=more), plain)
    network.temporal.known.conv.weight.normal_(std=0.5)
    assert torch.equal(network(x, t, tokens, added_cond_kwargs=more), plain)
    nothing = told(x, torch.zeros(2, 3, dtype=torch.bool))
    near(network(x, t, tokens, None, nothing, added_cond_kwargs=more), plain)
    heard = network(x, t, tokens, None, known, added_cond_kwargs=more)
    # With all gates shut frames know nothing of each other: all hear of the given one, each by what it is told itself.
    for frame in range(3):
        assert not torch.allclose(heard[:, :, frame], plain[:, :, frame], atol=1e-3)
    known[:, 1:] = 0
    heard = network(x, t, tokens, None, known, added_cond_kwargs=more)
    assert not torch.allclose(heard[:, :, 0], plain[:, :, 0], atol=1e-3)
    near(heard[:, :, 1:], plain[:, :, 1:])


def test_layers_that_know_none_say_so(tmp_path):
    model = load_video_model(build_video_folder(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"given frames: expected a model trained to know them.*--known-share"):
        clip(model, given={0: RED})


def test_given_frames_come_back_and_steer_the_others(model):
    plain = clip(model)
    first = clip(model, given={0: RED})
    both = clip(model, given={0: RED, 4: BLUE})
    known = known_of(model.image.codec, {0: RED}, frames=5, height=32, width=32, device="cpu")
    assert torch.equal(first.latents[0, :, 0], known[0, 0, :4])
    assert not torch.allclose(first.latents[0, :, 1:], plain.latents[0, :, 1:], atol=1e-2)
    assert not torch.allclose(both.latents[0, :, 1:4], first.latents[0, :, 1:4], atol=1e-2)
    decoded = model.image.codec.decode(model.image.codec.encode(from_uint8(BLUE[None])))
    assert np.abs(both.frames[0, 4] / 127.5 - 1 - decoded[0].permute(1, 2, 0).numpy()).max() < 0.02


def test_in_windows_they_are_given_to_the_frames_that_they_are(model):
    whole = clip(model, given={0: RED}, frames=6)
    windowed = clip(model, given={0: RED}, frames=6, window=4)
    assert torch.equal(whole.latents[:, :, 0], windowed.latents[:, :, 0])
    assert not torch.allclose(clip(model, frames=6, window=4).latents[:, :, 1], windowed.latents[:, :, 1], atol=1e-2)


def test_tasks_are_clips_of_files_that_recipes_name(model, tmp_path):
    for name, picture in (("first.png", RED), ("last.png", BLUE)):
        write_image(tmp_path / name, picture)
    recipe = ClipRecipe.parse(RECIPE)
    first, last = str(tmp_path / "first.png"), str(tmp_path / "last.png")
    *_, predicted = predict(model, recipe, RED)
    *_, between = interpolate(model, recipe, RED, BLUE)
    *_, named = generate_clip(model, ClipRecipe.parse({**RECIPE, "image": first}))
    assert np.array_equal(named.frames, predicted.frames)
    *_, named = generate_clip(model, ClipRecipe.parse({**RECIPE, "image": first, "last": last}))
    assert np.array_equal(named.frames, between.frames)


def test_pictures_of_other_shapes_show_their_middle(model):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = RED[0, 0]
    codec = model.image.codec
    known = known_of(codec, {2: wide}, frames=3, height=32, width=32, device="cpu")
    same = known_of(codec, {2: RED}, frames=3, height=32, width=32, device="cpu")
    torch.testing.assert_close(known, same, rtol=0, atol=1e-3)  # but for ringing at the edge


def test_wrong_frames_are_refused(model, tmp_path):
    with pytest.raises(InputError, match=r"given frame: expected 0 to 4, got 5"):
        clip(model, given={5: RED})
    write_image(tmp_path / "a.png", RED)
    with pytest.raises(InputError, match=r"frames: expected 2 or more, with --last, got 1"):
        clip(model, frames=1, last=str(tmp_path / "a.png"))
