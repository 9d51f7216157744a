import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from shared.models.source import WORLD
from shared.models.weight_files import read_header, read_json, weight_files


def test_headers_tell_names_and_shapes(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"one": torch.zeros(2, 3), "two": torch.zeros(()), "three": torch.zeros(4).half()}, file)
    assert read_header(file) == {"one": (2, 3), "two": (), "three": (4,)}
    whole = file.read_bytes()
    for length in (0, 4, 20, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="whole safetensors file"):
            read_header(file)
    with pytest.raises(ModelError):
        read_header(tmp_path / "none.safetensors")


def test_the_file_without_a_variant_is_the_one(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match=r"pickle.*kinoform convert"):
        weight_files(tmp_path)
    for name in ("model.fp16.safetensors", "model.safetensors"):  # a variant alone is taken, but not before the whole
        (tmp_path / name).touch()
        assert weight_files(tmp_path) == [tmp_path / name]
    with pytest.raises(ModelError, match="subfolder none"):
        weight_files(tmp_path / "none")


def test_of_several_variants_none_is_chosen(tmp_path):
    for variant in ("fp16", "non_ema"):
        (tmp_path / f"model.{variant}.safetensors").touch()
    with pytest.raises(ModelError, match="one variant, got fp16 or non_ema"):
        weight_files(tmp_path)


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards_of_a_variant(tmp_path, variant):
    names = [f"diffusion_pytorch_model{variant}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        (tmp_path / name).touch()
    index = tmp_path / f"diffusion_pytorch_model.safetensors.index{variant}.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1], "c": names[0]}}))
    assert weight_files(tmp_path) == [tmp_path / name for name in names]
    for wrong in ({"a": "../other.safetensors"}, {}, [1]):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(ModelError, match="every shard"):
            weight_files(tmp_path)


def test_a_pickle_by_another_name_is_called_one(tmp_path):
    file = tmp_path / "model.safetensors"
    for new in (True, False):
        torch.save({"a": torch.ones(3)}, file, _use_new_zipfile_serialization=new)
        with pytest.raises(ModelError, match=r"got a pickle.*kinoform convert"):
            read_header(file)


def test_json_must_be_an_object(tmp_path):
    file = tmp_path / "config.json"
    for content in (b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=r"config\.json: expected a JSON object"):
            read_json(file)
    file.write_text('{"a": 1}')
    assert read_json(file) == {"a": 1}


def test_the_headers_of_the_embedded_model_are_what_the_library_reads():
    files = sorted(WORLD.rglob("*.safetensors"))
    assert len(files) == 6
    for file in files:
        assert read_header(file) == {name: tuple(tensor.shape) for name, tensor in load_file(file).items()}


def test_every_dtype_that_torch_saves_is_known(tmp_path):
    tensors = {str(d): torch.zeros(3, 2).to(d) for d in (torch.bool, torch.uint8, torch.int16, torch.int64)}
    tensors |= {str(d): torch.zeros(4, dtype=d) for d in (torch.bfloat16, torch.float64, torch.complex64)}
    tensors |= {str(d): torch.zeros(5).to(d) for d in (torch.float8_e4m3fn, torch.float8_e5m2)}
    save_file({**tensors, "empty": torch.zeros(0, 4)}, tmp_path / "a", {"by": "me"})
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert read_header(tmp_path / "a") == {**expected, "empty": (0, 4)}


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"[" * 100_000, "more than 64 lists"),
        (b"[]", "list"),
        ({"a": 1}, "a: 1"),
        ({"a": {}}, "a: {}"),
        ({"a": entry(shape=[-1, -2])}, "shape"),
        ({"a": entry(shape=[2.0])}, "shape"),
        ({"a": entry(shape=["2"])}, "shape"),
        ({"a": entry(shape=3)}, "shape"),
        ({"a": entry(dtype=[])}, "dtype"),
        ({"a": entry(shape=[2**62, 4])}, "shape"),
        ({"a": entry(data_offsets=[8, 0])}, "data_offsets"),
        ({"a": entry(data_offsets=[0, 4, 8])}, "data_offsets"),
        ({"a": entry(), "b": entry()}, "b at 0 instead of 8"),
        ({"a": entry(), "b": entry(data_offsets=[4, 12])}, "b at 4 instead of 8"),
        ({"b": entry(data_offsets=[8, 16])}, "b at 8 instead of 0"),
        ({"a": entry(data_offsets=[0, 8000], shape=[2000])}, "16 bytes of tensors instead of 8000"),
        ({"a": entry()}, "16 bytes of tensors instead of 8"),
    ],
)
def test_headers_that_no_such_file_can_have(tmp_path, header, reason):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(ModelError, match=r"expected a whole safetensors file, got .*Fetch it again") as caught:
        read_header(file)
    assert reason in str(caught.value)
    file.write_bytes(struct.pack("<Q", 2**63) + text)
    with pytest.raises(ModelError, match="a header of 9223372036854775808 bytes"):
        read_header(file)
