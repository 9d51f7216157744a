import copy
import gc

import pytest
import torch
from diffusers import AnimateDiffPipeline, AutoencoderKL, UNet2DConditionModel, UNetMotionModel
from transformers import CLIPTextModel

from shared.attention import install_attention, unrouted
from shared.errors import InputError, ModelError
from shared.models.image_model import load_image_model
from shared.rng import generator
from tests.tiny import build_image_folder, tiny_unet
from tests.video.motion.adapters import build_adapter, build_motion_lora, tiny_adapter
from video.frames.windows import window_starts, window_weights
from video.generate import load_video_model, sample_latents
from video.motion.network import MotionUNet
from video.recipe import ClipRecipe


def inputs(clips=2, frames=3):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(clips, 4, frames, 16, 16, generator=draw), torch.randn(clips, 7, 32, generator=draw)


@pytest.mark.parametrize("middle", [True, False])
@torch.no_grad()
def test_it_predicts_what_diffusers_motion_unet_does(middle):
    unet, adapter = tiny_unet(), tiny_adapter(use_motion_mid_block=middle)
    stock = UNetMotionModel.from_unet2d(copy.deepcopy(unet), copy.deepcopy(adapter)).eval()
    install_attention(unet)
    ours = MotionUNet(unet, adapter)
    x_t, text = inputs()
    t = torch.tensor([3, 900])
    wanted = torch.cat([stock(x_t[i : i + 1], t[i], text[i : i + 1].expand(3, -1, -1)).sample for i in range(2)])
    torch.testing.assert_close(ours(x_t, t, text), wanted, rtol=1e-4, atol=1e-5)
    assert not unrouted(ours)


@torch.no_grad()
def test_the_image_network_stays_one():
    unet = tiny_unet()
    pictures, text = inputs(1, 2)[0][0].transpose(0, 1), torch.randn(2, 7, 32)
    before = unet(pictures, 9, text).sample
    network = MotionUNet(unet, tiny_adapter())
    torch.testing.assert_close(unet(pictures, 9, text).sample, before, rtol=1e-4, atol=1e-5)
    assert any(module._forward_hooks for module in unet.modules())
    del network
    gc.collect()
    assert not any(module._forward_hooks for module in unet.modules())


def test_more_frames_than_positions_are_refused():
    network = MotionUNet(tiny_unet(), tiny_adapter(motion_max_seq_length=4))
    with pytest.raises(InputError, match=r"frames: expected at most 4 .*got 5. --window"):
        network(*inputs(1, 5)[:1], torch.tensor(9), torch.randn(1, 7, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("motion")
    build_image_folder(path / "image")
    build_adapter(path / "adapter")
    return path


def recipe(folder, **changes):
    values = {"prompt": "a red cube", "negative": "a ball", "steps": 2, "frames": 4, "guidance_rescale": 0.0, "seed": 3}
    values |= {"temporal_guidance_scale": 1.0}
    return ClipRecipe.parse({**values, "motion_adapter": str(folder / "adapter"), **changes})


def loaded(folder, asked, *lora):
    return load_video_model(folder / "image", motion_adapter=[asked.motion_adapter], lora=lora)


def latents_of(model, asked):
    return [state.latents for state in sample_latents(model, [asked])][-1]


@pytest.mark.parametrize("layout", ["without", "original", "diffusers"])
def test_a_clip_is_that_of_animatediffs_pipeline(folder, layout):
    """From the same noise, by the same schedule: the image model's, with betas that rise evenly. Without a motion LoRA,
    and with one in either layout, of which diffusers reads its own."""
    asked = recipe(folder)
    lora = build_motion_lora(folder)
    model = loaded(folder, asked, *(f"{file}:0.7" for name, file in lora.items() if name == layout))
    made = latents_of(model, asked)
    scheduler = model.image.make_scheduler()
    assert scheduler.config["beta_schedule"] == "linear"
    unet = UNet2DConditionModel.from_pretrained(folder / "image", subfolder="unet").float()
    text = CLIPTextModel.from_pretrained(folder / "image", subfolder="text_encoder").float()
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3, norm_num_groups=4,
    )  # fmt: skip
    stock = AnimateDiffPipeline(vae, text, model.image.text.tokenizer, unet, tiny_adapter(), scheduler)
    stock.set_progress_bar_config(disable=True)
    if layout in lora:
        stock.load_lora_weights(lora["diffusers"], adapter_name="motion")
        stock.set_adapters(["motion"], [0.7])
        assert (made - latents_of(loaded(folder, asked), asked)).abs().max() > 0.1
    noise = torch.randn(4, 4, 16, 16, generator=generator(3))[None]
    wanted = stock(
        "a red cube", negative_prompt="a ball", num_frames=4, height=64, width=64, num_inference_steps=2,
        guidance_scale=5.0, latents=noise, output_type="latent",
    ).frames  # fmt: skip
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)


def test_what_fits_of_a_motion_lora_in_part_is_said(folder, tmp_path):
    extra = {f"mid_block.motion_modules.9.to_q.lora_{which}.weight": torch.ones(2, 2) for which in "AB"}
    for file in build_motion_lora(tmp_path, extra=extra).values():
        (note,) = loaded(folder, recipe(folder), file).image.notes
        assert note.startswith(f"of the 57 layers in {file}, 1 are not in model {folder / 'image'} and do nothing: ")
        assert note.endswith("mid_block.motion_modules.9.to_q")


def test_a_motion_lora_of_another_architecture_is_refused_with_both(folder, tmp_path):
    file = build_motion_lora(tmp_path, block_out_channels=(32, 64))["original"]
    said = rf"expected a change of 32 x 32, as model {folder / 'image'} has, got one of 64 x 64"
    with pytest.raises(ModelError, match=said):
        loaded(folder, recipe(folder), file)


def test_a_motion_lora_alone_is_refused(folder):
    file = build_motion_lora(folder)["original"]
    with pytest.raises(ModelError, match=r"56 layers, none of which fits, .*\. It is a motion LoRA of AnimateDiff: .*"):
        load_image_model(folder / "image", lora=[file])


@torch.no_grad()
def test_windows_begin_anew_and_are_blended(folder):
    asked = recipe(folder, frames=5, window=4, steps=1, guidance_scale=1.0)
    model = loaded(folder, asked)
    (state,) = sample_latents(model, [asked])
    told = model.image.conditions(["a red cube"])
    start = torch.randn(4, 5, 16, 16, generator=generator(3))[None]
    scheduler = model.image.make_scheduler()
    scheduler.set_timesteps(1)
    t = scheduler.timesteps
    total, weight = torch.zeros_like(start), torch.zeros(5, 1, 1)
    for first in window_starts(5, 4, 2):
        part = slice(first, first + 4)
        own = window_weights(4)[:, None, None]
        total[:, :, part] += own * model.network(start[:, :, part], t, told.text)
        weight[part] += own
    wanted = scheduler.step(total / weight, t[0], start).prev_sample
    torch.testing.assert_close(state.latents, wanted, rtol=1e-4, atol=1e-4)
