import pytest
import torch
from diffusers import MotionAdapter
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from tests.tiny import tiny_unet
from tests.video.motion.adapters import build_adapter, build_original, tiny_adapter
from video.motion.adapter import load_motion_adapter

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load(file, **changes):
    return load_motion_adapter(file, tiny_unet(**changes), "tiny", device="cpu", dtype=torch.float32)


def same(got, wanted):
    wanted, got = dict(wanted.named_parameters()), dict(got.named_parameters())
    assert wanted.keys() == got.keys()
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("middle", [True, False])
def test_a_folder_of_diffusers(tmp_path, middle):
    build_adapter(tmp_path / "a", use_motion_mid_block=middle, motion_max_seq_length=24, motion_num_attention_heads=4)
    adapter, notes = load(tmp_path / "a" / WEIGHTS)
    same(adapter, MotionAdapter.from_pretrained(tmp_path / "a"))
    assert adapter.config["motion_num_attention_heads"] == 4
    assert not notes


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("middle", [True, False])
def test_an_original_file(tmp_path, prefix, middle):
    """As diffusers' own conversion reads it."""
    file = build_original(tmp_path / "mm.safetensors", prefix=prefix, use_motion_mid_block=middle)
    adapter, notes = load(file)
    same(adapter, tiny_adapter(use_motion_mid_block=middle))
    assert (adapter.mid_block is not None) is middle
    assert adapter.config["motion_max_seq_length"] == 32
    assert not notes
    if not prefix:
        build_adapter(tmp_path / "config", use_motion_mid_block=middle)
        same(adapter, MotionAdapter.from_single_file(str(file), config=str(tmp_path / "config")))


def test_positions_of_a_file_in_half_precision_are_whole(tmp_path):
    whole = load_file(build_original(tmp_path / "mm.safetensors"))
    save_file({name: tensor.half() for name, tensor in whole.items()}, tmp_path / "half.safetensors")
    adapter, _ = load(tmp_path / "half.safetensors")
    wanted = tiny_adapter().state_dict()["down_blocks.0.motion_modules.0.transformer_blocks.0.pos_embed.pe"]
    assert torch.equal(adapter.down_blocks[0].motion_modules[0].transformer_blocks[0].pos_embed.pe, wanted)


def test_tensors_that_do_nothing_are_named(tmp_path):
    extra = {f"x{number}": torch.zeros(1) for number in range(4)}
    _, (note,) = load(build_original(tmp_path / "mm.safetensors", extra=extra))
    assert note.endswith("4 are of no motion module and do nothing: x0, x1, x2 and 1 more")


def changed(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return path


def cross(tensors):
    for name in list(tensors):
        if name.endswith("attention_blocks.1.to_k.weight"):
            tensors[name] = torch.zeros(32, 768)


def no_up_blocks(tensors):
    for name in [name for name in tensors if name.startswith("up_blocks")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cross, r"expected attention over frames alone, of width 32, got cross attention to 768 numbers a token"),
        (no_up_blocks, r"got \d+ missing, first up_blocks\.0\.motion_modules\.0\.norm\.bias"),
        (lambda tensors: tensors.update({"conv_in.weight": torch.zeros(32, 9, 3, 3)}), r"wants a picture \(PIA\)"),
        (lambda tensors: tensors[next(iter(tensors))].fill_(torch.nan), "expected finite numbers, got NaN"),
    ],
)
def test_what_is_refused(tmp_path, change, said):
    with pytest.raises(ModelError, match=said):
        load(changed(build_original(tmp_path / "mm.safetensors"), change))


def test_a_file_of_something_else_is_refused(tmp_path):
    tiny_unet().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"expected tensors of motion modules .* none of which is, such as"):
        load(tmp_path / WEIGHTS)


@pytest.mark.parametrize("original", [True, False])
def test_another_architecture_is_refused_with_both(tmp_path, original):
    if original:
        file = build_original(tmp_path / "mm.safetensors", block_out_channels=(32, 64))
    else:
        file = build_adapter(tmp_path, block_out_channels=(32, 64)) / WEIGHTS
    said = r"one for widths 32, 32 with 1, 1 layers, as model tiny has, got widths 32, 64 with 1, 1 layers"
    with pytest.raises(ModelError, match=said):
        load(file)
