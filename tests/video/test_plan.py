"""Plans of clips and trainings on a tiny model: what they are made of, and which way they go."""

import pytest

from shared.training.data.arrays import DataSize
from tests.tiny import build_image_folder, tiny_unet
from tests.video.motion.adapters import build_adapter, tiny_adapter
from tests.video.tiny import build_video_folder
from video.folder import load_temporal
from video.plan import (
    STABLE_DIFFUSION_1,
    build_video_network,
    clip_savings,
    plan_clip,
    plan_forward,
    plan_video_training,
)
from video.recipe import ClipRecipe, VideoTrainRecipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(build_video_folder(tmp_path_factory.mktemp("plan") / "model"))


def beyond_base(estimate):
    return estimate.peak - estimate.kinds["base"]


def clip(folder, **changes):
    return plan_clip(ClipRecipe(prompt="a red cube", model=folder, width=64, height=64, steps=1, **changes))


def test_a_clip_takes_its_weights_and_more_with_more_frames_and_less_in_windows(folder):
    slices = {"decode": "sliced", "decode_frames": 4}
    few, many, windows, whole = (
        clip(folder, **changes)
        for changes in ({"frames": 2, **slices}, {"frames": 12, **slices}, {"frames": 12, "window": 4, **slices},
                        {"frames": 12, "window": 4, "decode": "whole"})
    )  # fmt: skip
    assert few.weights == many.weights < beyond_base(few) < beyond_base(many)
    assert many.flops > 4 * few.flops
    assert beyond_base(windows) < beyond_base(many)
    assert beyond_base(windows) < beyond_base(whole)


def training(folder, **changes):
    recipe = VideoTrainRecipe(model=folder, embed_dim=32, head_dim=16, frames=4, precision="fp32", **changes)
    return plan_video_training(recipe, "cpu", DataSize())


def test_a_training_holds_state_and_less_with_checkpointing(folder):
    large = training(folder, batch_size=4)
    trained = sum(4 * weight.numel() for weight in load_temporal(folder).parameters())
    state = 3 * trained  # both of AdamW's moments, and the average
    assert state <= large.kinds["training state"] <= 1.2 * state
    assert beyond_base(training(folder, batch_size=4, checkpointing=True)) < beyond_base(large)


def test_an_image_network_that_learns_along_has_gradients_and_state_of_its_own(folder):
    unet = sum(4 * weight.numel() for weight in tiny_unet().parameters())
    alone, along = (training(folder, batch_size=1, image_learning_rate=rate, stills=1) for rate in (0.0, 1e-3))
    assert along.kinds["training state"] - alone.kinds["training state"] == pytest.approx(3 * unet, rel=0.05)
    assert beyond_base(along) >= beyond_base(alone) + 4 * unet


def test_savings_are_recipes():
    recipe = ClipRecipe(prompt="a red cube", frames=64, width=512, height=512)
    changes = list(clip_savings(recipe))
    assert changes[0] == {"decode": "sliced", "decode_frames": 8}
    for change in changes:
        ClipRecipe.parse({**recipe.resolved(), **change})


def test_a_forward_of_networks_that_are_not_here():
    config = {
        **STABLE_DIFFUSION_1, "block_out_channels": (32, 64), "norm_num_groups": 8, "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    estimate = plan_forward(config, frames=4, side=8, tokens=7)
    assert estimate.weights == sum(4 * weight.numel() for weight in build_video_network(config).parameters())
    assert beyond_base(plan_forward(config, frames=8, side=8, tokens=7)) > beyond_base(estimate)


def test_a_motion_adapter_is_planned_for(tmp_path):
    build_image_folder(tmp_path / "image")
    adapter = build_adapter(tmp_path / "adapter")
    few, many = (
        plan_clip(
            ClipRecipe(
                prompt="a red cube", model=str(tmp_path / "image"), motion_adapter=str(adapter), steps=1, frames=frames
            )
        )
        for frames in (2, 8)
    )
    bytes_of_adapter = sum(tensor.nbytes for tensor in tiny_adapter().state_dict().values())
    assert few.weights == many.weights > bytes_of_adapter
    assert beyond_base(few) < beyond_base(many)
