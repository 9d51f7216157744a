"""Sizes and frames: those that classes say themselves, and that they run."""

import pytest

from shared.errors import InputError
from shared.models.pipelines.load import load_pipeline
from shared.models.pipelines.sizes import check_frames, check_sizes, frame_steps, own_size, size_multiple
from video.recipe import ClipRecipe


@pytest.mark.parametrize(
    ("name", "multiple"),
    [
        ("FluxPipeline", 4),  # it says so and rounds: two pixels a latent, packed by two
        ("SanaPipeline", 32),  # insists on it
        ("WanPipeline", 16),  # insists on it
        ("LTXPipeline", 32),
        ("LattePipeline", 16),  # insists on 8, and has patches of two latents
        ("AnimateDiffPipeline", 8),  # insists on it, with two pixels a latent
        ("IFPipeline", 2),  # pixels, through a level that must come out even
        ("KandinskyV22CombinedPipeline", 4),  # rounds latents up
    ],
)
def test_sides_that_divide(folder_of, name, multiple):
    assert size_multiple(load_pipeline(folder_of(name))) == multiple


@pytest.mark.parametrize(
    ("name", "steps", "right", "wrong", "offered"),
    [
        ("WanPipeline", (4, 1), [1, 5, 81], 7, "4n [+] 1, such as 5 or 9"),
        ("LTXPipeline", (8, 1), [1, 9, 161], 16, "8n [+] 1, such as 9 or 17"),
        ("MochiPipeline", (6, 1), [7, 19], 8, "6n [+] 1, such as 7 or 13"),
        ("AllegroPipeline", (4, 0), [24, 88], 3, "4n, such as 4"),
        ("AnimateDiffPipeline", (1, 1), [1, 16, 32], 33, "at most 32"),
        ("LattePipeline", (1, 1), [4], 5, "4, the only number"),
    ],
)
def test_frames(folder_of, name, steps, right, wrong, offered):
    model = load_pipeline(folder_of(name))
    assert frame_steps(model) == steps
    for frames in right:
        check_frames(model, frames)
    with pytest.raises(InputError, match=offered):
        check_frames(model, wrong)


def test_what_is_not_given_is_not_checked(folder_of):
    model = load_pipeline(folder_of("WanPipeline"))
    check_sizes(model, ClipRecipe.parse({"prompt": "a cube"}))
    with pytest.raises(InputError, match="height: expected a multiple of 16 pixels, such as 32 or 48, got 40"):
        check_sizes(model, ClipRecipe.parse({"prompt": "a cube", "height": 40}))


def test_own_sizes(folder_of):
    assert own_size(load_pipeline(folder_of("WanPipeline"))) == (832, 480)
    assert own_size(load_pipeline(folder_of("AnimateDiffPipeline"))) == (32, 32)
    assert own_size(load_pipeline(folder_of("UnCLIPPipeline"))) is None


@pytest.mark.parametrize(
    "name", ["FluxPipeline", "WanPipeline", "AllegroPipeline", "AnimateDiffPipeline", "IFPipeline"]
)
def test_shapes_alone_say_what_can_be_made(folder_of, name):
    whole, shape = load_pipeline(folder_of(name)), load_pipeline(folder_of(name), weights=False)
    parameters = [value for network in shape.networks.values() for value in network.parameters()]
    assert parameters
    assert all(value.is_meta for value in parameters)
    assert (size_multiple(shape), own_size(shape)) == (size_multiple(whole), own_size(whole))
    if whole.makes == "clip":
        assert frame_steps(shape) == frame_steps(whole)
