"""Parts of models by the commands: recorded by their hashes, and made again from elsewhere to the same bytes."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from lab.main import main
from shared.artifacts.files import sha256
from shared.artifacts.run_record import read_record
from tests.lab.command import is_refusal
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.pipelines.test_replaced import other, written
from tests.shared.models.pipelines.tiny.clips import wan_2_2

FLAGS = ["--steps", "2", "--size", "32x32", "--frames", "5", "--device", "cpu"]
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    wan_2_2().save_pretrained(folder := tmp_path_factory.mktemp("wan") / "model")
    return folder


def asked(wan, *flags):
    return ["clip", "a red cube", "--model", str(wan), *FLAGS, *map(str, flags)]


def test_two_transformers_are_made_again(wan, tmp_path, capsys):
    flags = []
    for seed, name in enumerate(("transformer", "transformer_2")):
        file = tmp_path / f"{name}.safetensors"
        written(original.wan(other(getattr(wan_2_2(), name), seed).state_dict()), file)
        flags += [f"--{name.replace('_', '-')}", file]
    clip = tmp_path / "a.mp4"
    assert main(asked(wan, *flags, "-o", clip)) == 0
    record = read_record(clip)
    assert record.inputs == {"transformer": sha256(flags[1]), "transformer_2": sha256(flags[3])}
    assert not [name for name in record.model.hashes if name.startswith("transformer")]
    moved = flags[3].rename(tmp_path / "low.safetensors")
    capsys.readouterr()
    assert is_refusal(main(["rerun", str(clip)]), capsys.readouterr().err, "transformer_2", "a file that exists")
    code = main(["rerun", str(clip), "--transformer-2", str(flags[1])])
    assert is_refusal(code, capsys.readouterr().err, "the file it was made with", "--transformer-2 FILE")
    assert main(["rerun", str(clip), "--transformer-2", str(moved), "-o", str(tmp_path / "b.mp4")]) == 0
    assert (tmp_path / "b.mp4").read_bytes() == clip.read_bytes()


def test_a_part_in_shards_is_made_again_from_the_same_ones(wan, tmp_path, capsys):
    here = tmp_path / "here"
    other(wan_2_2().transformer_2).save_pretrained(here, max_shard_size="40KB")
    shards = sorted(here.glob("*.safetensors"))
    assert len(shards) == 2
    clip = tmp_path / "a.mp4"
    assert main(asked(wan, "--transformer-2", here, "-o", clip)) == 0
    record = read_record(clip)
    files = {f"transformer_2.{i}": shard for i, shard in enumerate(shards)} | {"transformer_2": here / INDEX}
    assert record.inputs == {key: sha256(file) for key, file in files.items()}

    there = shutil.copytree(here, tmp_path / "there")
    shutil.rmtree(here)
    assert main(["rerun", str(clip), "--transformer-2", str(there), "-o", str(tmp_path / "b.mp4")]) == 0
    assert (tmp_path / "b.mp4").read_bytes() == clip.read_bytes()

    last = there / shards[1].name
    save_file({name: tensor + 1 for name, tensor in load_file(last).items()}, last)
    capsys.readouterr()
    code = main(["rerun", str(clip), "--transformer-2", str(there)])
    parts = (f"transformer_2.1 {last}", "the file it was made with", "--transformer-2 FILE")
    assert is_refusal(code, capsys.readouterr().err, *parts)
    last.unlink()
    code = main(["rerun", str(clip), "--transformer-2", str(there)])
    assert is_refusal(code, capsys.readouterr().err, "every shard of its index", last.name)
