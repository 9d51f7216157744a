"""LoRAs of every layout against diffusers' own loader; what does not fit is refused, or said."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from shared.errors import ModelError
from shared.images.generate import sample_images
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.rng import normal
from tests.shared.models.adapters import files
from tests.tiny import build_image_folder, tiny_unet

PROMPT = "a red cube"
RECIPE = ImageRecipe(prompt=PROMPT, steps=3, guidance_scale=3.0, guidance_rescale=0.0)
NEAR = 1e-5  # latents are of order 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def layers():
    return files.random_layers()


def latents_of(folder, *lora):
    *_, last = sample_images(load_image_model(folder, lora=lora), [PROMPT], [0], RECIPE)
    return last.latents


def stock(folder, **loras):
    """Latents of diffusers' pipeline from our noise. loras: name=(file, weight)."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for name, (file, _) in loras.items():
        pipeline.load_lora_weights(file, adapter_name=name)
    if loras:
        pipeline.set_adapters(list(loras), [weight for _, weight in loras.values()])
    noise = normal((4, 16, 16), RECIPE.seed)[None]
    made = pipeline(PROMPT, num_inference_steps=3, guidance_scale=3.0, latents=noise, output_type="latent")
    return made.images


def test_without_a_lora_both_give_the_same_latents(folder):
    assert (latents_of(folder) - stock(folder)).abs().max() < NEAR


@pytest.mark.parametrize("layout", ["kohya", "diffusers_with_metadata", "diffusers_scaled"])
def test_each_layout_gives_what_diffusers_gives_of_it(layout, folder, layers, tmp_path):
    file = getattr(files, layout)(tmp_path, *layers)
    ours = latents_of(folder, file)
    assert (ours - latents_of(folder)).abs().max() > 0.05
    assert (ours - stock(folder, one=(file, 1.0))).abs().max() < NEAR


def test_all_layouts_are_one_picture(folder, layers, tmp_path):
    made = [
        latents_of(folder, getattr(files, layout)(tmp_path, *layers))
        for layout in ("kohya", "diffusers_with_metadata", "diffusers_scaled", "peft_scaled")
    ]
    assert all((one - made[0]).abs().max() < NEAR for one in made[1:])


def test_two_at_half_weight(folder, tmp_path):
    one, two = (files.kohya(tmp_path, *files.random_layers(seed), f"{seed}") for seed in (5, 7))
    ours = latents_of(folder, f"{one}:0.5", f"{two}:0.5")
    assert (ours - stock(folder, one=(one, 0.5), two=(two, 0.5))).abs().max() < NEAR
    assert (ours - latents_of(folder, one)).abs().max() > 0.01


def test_names_of_the_original_blocks_are_known(folder, layers, tmp_path):
    """The tiny UNet's first block's attention is `input_blocks_1_1`, its second's `input_blocks_3_1`."""
    file = files.kohya(tmp_path, *layers)
    names = {"down_blocks_0_attentions_0": "input_blocks_1_1", "down_blocks_1_attentions_0": "input_blocks_3_1"}
    mine = {key: t for key, t in load_file(file).items() if any(name in key for name in names)}
    original = {key.replace(old, new): t for old, new in names.items() for key, t in mine.items() if old in key}
    a, b = files.save(tmp_path / "a.safetensors", mine), files.save(tmp_path / "b.safetensors", original)
    assert torch.equal(latents_of(folder, a), latents_of(folder, b))


def test_a_weight_of_nothing_changes_nothing(folder, layers, tmp_path):
    assert torch.equal(latents_of(folder, f"{files.kohya(tmp_path, *layers)}:0"), latents_of(folder))


def test_what_fits_in_part_is_said(folder, layers, tmp_path):
    strange = {"lora_unet_down_blocks_9_attentions_0_proj_in": 1, "lora_unet_nowhere": 1}
    tensors = load_file(files.kohya(tmp_path, *layers))
    count = sum("lora_down" in key for key in tensors)
    for name in strange:
        tensors |= {f"{name}.lora_down.weight": torch.zeros(2, 32), f"{name}.lora_up.weight": torch.zeros(32, 2)}
    file = files.save(tmp_path / "part.safetensors", tensors)
    (note,) = load_image_model(folder, lora=[file]).notes
    assert f"of the {count + 2} layers in {file}, 2 are not in model {folder} and do nothing" in note
    assert "unet.nowhere" in note


def test_another_architecture_is_refused_and_both_are_named(folder, tmp_path):
    wide = files.peft_layers(tiny_unet(cross_attention_dim=64), ["attn2.to_k"], 0)
    named = {f"unet.{key}": tensor for key, tensor in wide.items()}
    file = files.save(tmp_path / "wide.safetensors", named, {"ss_base_model_version": "sd_v2"})
    with pytest.raises(ModelError) as error:
        load_image_model(folder, lora=[file])
    text = str(error.value)
    assert f"{file}: unet.down_blocks.0" in text
    assert f"expected a change of 32 x 32, as model {folder} has" in text
    assert "got one of 32 x 64; it says that it is for sd_v2" in text


def test_nothing_that_fits_is_an_error(folder, tmp_path):
    tensors = {"unet.a.b.lora_A.weight": torch.ones(1, 2), "unet.a.b.lora_B.weight": torch.ones(2, 1)}
    with pytest.raises(ModelError, match=r"1 layers, none of which fits, such as unet\.a\.b"):
        load_image_model(folder, lora=[files.save(tmp_path / "x.safetensors", tensors)])


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def nan(path):
    files.save(path, {key: torch.full_like(t, torch.nan) for key, t in load_file(path).items()})


def renamed(to):
    def rename(path):
        files.save(path, {to: torch.ones(2, 2), **load_file(path)})

    return rename


@pytest.mark.parametrize(
    ("break_it", "part"),
    [
        (cut, "expected a whole safetensors file"),
        (nan, "expected finite numbers, got NaN or infinity"),
        (renamed("lora_unet_conv_in.dora_scale"), "got DoRA: lora_unet_conv_in.dora_scale"),
        (renamed("lora_unet_conv_in.hada_w1_a"), "got LoHa: lora_unet_conv_in.hada_w1_a"),
        (renamed("lora_unet_x.lora_down.weight"), "LoRA layouts"),
        (renamed("first_stage.weight"), "LoRA layouts"),
        (lambda path: path.write_bytes(b""), "expected a whole safetensors file"),
    ],
)
def test_a_file_that_is_none_is_refused(folder, layers, tmp_path, break_it, part):
    file = files.kohya(tmp_path, *layers)
    break_it(tmp_path / "kohya.safetensors")
    with pytest.raises(ModelError) as error:
        load_image_model(folder, lora=[file])
    assert part in str(error.value)


def test_a_pickle_is_not_opened(folder, tmp_path):
    torch.save({"lora_unet_conv_in.lora_down.weight": torch.ones(1)}, tmp_path / "lora.ckpt")
    with pytest.raises(ModelError, match="a pickle, which can run code"):
        load_image_model(folder, lora=[str(tmp_path / "lora.ckpt")])
