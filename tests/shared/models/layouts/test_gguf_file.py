"""Transformers in GGUF files: what comes out is what the rounded weights give, by the package gguf's arithmetic."""

import gguf
import numpy as np
import pytest
import torch

from lab.kinds.pipelines import load_clips, load_pictures
from shared.errors import ModelError
from shared.images.recipe import ImageRecipe
from shared.models.adapters.recipe import check_adapters
from shared.models.image_model import load_image_model
from shared.models.pipelines.run import run_pipeline
from shared.plan.pipelines import plan_pipeline
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.layouts.gguf_writer import rounded, write_gguf
from tests.shared.models.pipelines.test_replaced import SHORT, in_place, made, other, sd3  # noqa: F401
from tests.shared.models.pipelines.tiny.clips import LTXPipeline, WanPipeline, ltx_parts, wan_parts
from tests.tolerances import TOLERANCES
from video.recipe import ClipRecipe

Q8, Q4, BF16 = (getattr(gguf.GGMLQuantizationType, name) for name in ("Q8_0", "Q4_0", "BF16"))
CLIPS = {  # rows of whole blocks
    "Wan": (lambda: WanPipeline(**wan_parts(attention_head_dim=16)), 5, original.wan),
    "LTX-Video": (lambda: LTXPipeline(**ltx_parts()), 9, original.ltx),
}


def picture(folder, **files):
    recipe = ImageRecipe.parse({**SHORT, "model": str(folder)})
    where = {"device": "cpu", "dtype": torch.float32}
    model = load_pictures(str(folder), **where, **{name: [file] for name, file in files.items()})
    *_, last = run_pipeline(model, recipe)
    return model.pipeline.transformer, last.values


@pytest.fixture(scope="module")
def network(sd3):  # noqa: F811
    return other(load_pictures(str(sd3), device="cpu", dtype=torch.float32).pipeline.transformer)


@pytest.fixture(scope="module")
def exact(sd3, network, tmp_path_factory):  # noqa: F811
    return picture(in_place(sd3, tmp_path_factory.mktemp("exact"), transformer=network))[1]


def test_a_quantised_transformer_is_the_rounded_one(sd3, network, exact, tmp_path):  # noqa: F811
    """And the nearer the more bits: with 8 in a number 16 times as near as with 4."""
    off = {kind: as_rounded(sd3, network, tmp_path / kind.name, kind) - exact for kind in (Q8, Q4)}
    near, far = (float(np.sqrt(np.square(off[kind]).mean())) for kind in (Q8, Q4))
    assert 0 < near < far / 8


def as_rounded(sd3, network, place, kind):  # noqa: F811
    """The picture of a quantised transformer, once it is seen to be that of the rounded weights."""
    place.mkdir()
    names = original.stable_diffusion_3(network.state_dict())
    names = {name.removeprefix("model.diffusion_model."): tensor for name, tensor in names.items()}
    loaded, got = picture(sd3, transformer=write_gguf(place / "a.gguf", names, kind))
    weight = loaded.transformer_blocks[0].attn.to_q.weight
    assert (weight.dtype, weight.quant_type) == (torch.uint8, kind)  # still in blocks

    near = other(network)
    near.load_state_dict(rounded(network.state_dict(), kind))
    wanted = picture(in_place(sd3, place, transformer=near))[1]
    assert np.abs(got - wanted).max() <= TOLERANCES[torch.float32][0]
    return got


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_so_are_those_of_clips(tmp_path, name, dtype):
    build, frames, names = CLIPS[name]
    pipeline = build()
    pipeline.save_pretrained(folder := tmp_path / "model")
    network = other(pipeline.transformer)
    recipe = ClipRecipe.parse({**SHORT, "frames": frames, "model": str(folder)})
    file = write_gguf(tmp_path / "a.gguf", names(network.state_dict()), Q4)
    model, got = made(load_clips, recipe, folder, dtype, transformer=file)
    blocks = [weight.quant_type for weight in model.pipeline.transformer.parameters() if hasattr(weight, "quant_type")]
    assert len(blocks) >= 14
    assert {*blocks} == {Q4}  # still in blocks

    near = other(network)
    near.load_state_dict(rounded(network.state_dict(), Q4))
    wanted = made(load_clips, recipe, in_place(folder, tmp_path, transformer=near), dtype)[1]
    assert np.abs(got - wanted).max() <= TOLERANCES[dtype][0]
    assert np.abs(got - made(load_clips, recipe, folder, dtype)[1]).max() > 0.05


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # of the package, which writes them
@pytest.mark.parametrize("wrong", [torch.inf, torch.nan, 1e8])
def test_blocks_whose_scale_is_no_number_are_one_line(sd3, network, tmp_path, wrong):  # noqa: F811
    broken = other(network)
    with torch.no_grad():
        broken.proj_out.weight[3, 5] = wrong  # of the last, a scale in half precision is infinite
    file = write_gguf(tmp_path / "a.gguf", original.stable_diffusion_3(broken.state_dict()), Q8)
    with pytest.raises(ModelError, match=r"a\.gguf: proj_out\.weight: expected finite numbers, got NaN") as caught:
        picture(sd3, transformer=file)
    assert "\n" not in str(caught.value)


def test_norms_in_half_precision_become_numbers(sd3, network, exact, tmp_path):  # noqa: F811
    file = write_gguf(tmp_path / "a.gguf", original.stable_diffusion_3(network.state_dict()), BF16, BF16)
    loaded, got = picture(sd3, transformer=file)
    assert loaded.transformer_blocks[0].attn.norm_q.weight.dtype is torch.float32
    assert 0 < np.abs(got - exact).max() <= 0.05


def test_a_plan_has_it_as_large_as_the_file(sd3, network, tmp_path):  # noqa: F811
    file = write_gguf(tmp_path / "a.gguf", original.stable_diffusion_3(network.state_dict()), Q8)
    recipe = ImageRecipe.parse({**SHORT, "model": str(sd3)})
    plain = sum(4 * tensor.numel() for tensor in network.state_dict().values())
    whole, less = (
        plan_pipeline(each, "cpu").weights for each in (recipe, recipe.model_copy(update={"transformer": file}))
    )
    assert whole - less == plain - (tmp_path / "a.gguf").stat().st_size


def test_what_is_none_is_one_line(sd3, network, tmp_path, monkeypatch):  # noqa: F811
    names = original.stable_diffusion_3(network.state_dict())
    whole = write_gguf(tmp_path / "a.gguf", names, Q8)
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "a.gguf").read_bytes()[:3000])
    (tmp_path / "none.gguf").write_bytes(b"PK\x03\x04" * 9)
    del names["model.diffusion_model.joint_blocks.0.x_block.attn.ln_q.weight"]
    less = write_gguf(tmp_path / "less.gguf", names, Q8)
    for file, said in (
        (tmp_path / "cut.gguf", "a whole GGUF file"),
        (tmp_path / "none.gguf", "a GGUF file, got anoth"),
    ):
        with pytest.raises(ModelError, match=said):
            picture(sd3, transformer=str(file))
    with pytest.raises(ModelError, match=r"without joint_blocks\.0\.x_block\.attn\.ln_q\.weight"):
        picture(sd3, transformer=less)
    check_adapters(ImageRecipe.parse({**SHORT, "transformer": whole}))
    with pytest.raises(ModelError, match="a GGUF file, got another"):
        check_adapters(ImageRecipe.parse({**SHORT, "transformer": str(tmp_path / "none.gguf")}))
    with pytest.raises(ModelError, match="GGUF, which the core does not read"):
        load_image_model("world", unet=[whole])

    def absent(path):
        raise ImportError

    monkeypatch.setattr("diffusers.models.model_loading_utils.load_gguf_checkpoint", absent)
    with pytest.raises(ModelError, match=r"the package gguf, .*got none\. Try: pip install 'kinoform\[gguf\]'"):
        picture(sd3, transformer=whole)
