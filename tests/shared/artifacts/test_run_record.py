import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from shared.artifacts.media import TAG, sidecar, write_clip, write_image
from shared.artifacts.mesh_record import comment_lines, glb_with_record
from shared.artifacts.run_record import RunRecord, installed_versions, read_record, write_sidecar
from shared.errors import InputError
from shared.version import VERSION

RECIPE = {
    "prompt": 'a "réd" cube 日本',
    "model": "world",
    "seed": 7,
    "frames": 16,
    "guidance_scale": 7.5,
    "image": None,
    "size": [64, 64],
}


@pytest.fixture
def record() -> RunRecord:
    return RunRecord.of_run("clip", RECIPE, 7, "world", {"unet/model.safetensors": "ab" * 32})


def glb() -> bytes:
    mesh = trimesh.creation.box()
    mesh.visual.vertex_colors = np.full((8, 4), (200, 30, 30, 255), np.uint8)
    data = mesh.export(file_type="glb")
    assert isinstance(data, bytes)
    return data


def test_a_record_says_what_ran(record: RunRecord) -> None:
    assert record.recipe == RECIPE
    assert record.kinoform_version == VERSION
    # The package's metadata: torch itself may add the build, as in 2.13.0+cu130.
    assert torch.__version__.split("+")[0] == record.versions["torch"].split("+")[0]
    assert record.versions["numpy"] == np.__version__
    assert "Python 3." in record.platform
    assert "xatlas" not in installed_versions()


def test_json_there_and_back(record: RunRecord) -> None:
    text = record.to_json()
    assert RunRecord.from_json(text) == record
    assert text.isascii()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_the_same_run_gives_the_same_text(record: RunRecord) -> None:
    turned = dict(reversed(RECIPE.items()))
    assert RunRecord.of_run("clip", turned, 7, "world", record.model.hashes).to_json() == record.to_json()


MOVING = ("a.mp4", "a.webm", "a.mov", "a.gif", "b.webp", "a.apng", "frames")


@pytest.mark.parametrize("name", [*MOVING, "a.png", "a.jpg", "a.webp", "a.glb", "a.obj", "a.stl"])
def test_every_artifact_carries_its_record(tmp_path: Path, name: str, record: RunRecord) -> None:
    file = tmp_path / name
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    if name in ("a.png", "a.jpg", "a.webp"):
        write_image(file, frames[0], {TAG: record.to_json()})
    elif file.suffix == ".glb":
        file.write_bytes(glb_with_record(glb(), record.to_json()))
    elif file.suffix == ".obj":
        file.write_text("\n".join([*comment_lines("#", record.to_json()), "v 0 0 0"]))
    elif file.suffix == ".stl":
        trimesh.creation.box().export(file)
        write_sidecar(file, record)
    else:
        write_clip(file, frames, 8, {TAG: record.to_json()})
    assert read_record(file) == record
    assert (tmp_path / f"{name}.json").exists() == (file.suffix == ".stl")


def test_a_file_without_a_record_says_so(tmp_path: Path) -> None:
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    for name in ("a.mp4", "a.gif", "frames"):
        write_clip(tmp_path / name, frames, 8)
    write_image(tmp_path / "a.png", frames[0])
    write_image(tmp_path / "a.jpg", frames[0])
    (tmp_path / "a.glb").write_bytes(glb())
    (tmp_path / "a.txt").write_text("hello")
    for name in ("a.mp4", "a.gif", "frames", "a.png", "a.jpg", "a.glb", "a.txt"):
        with pytest.raises(InputError, match="made by kinoform"):
            read_record(tmp_path / name)
    with pytest.raises(InputError, match="a file that exists"):
        read_record(tmp_path / "none.mp4")


def test_damaged_files_are_one_line(tmp_path: Path, record: RunRecord) -> None:
    whole = glb_with_record(glb(), record.to_json())
    broken = {
        "short.glb": whole[:10],
        "cut.glb": whole[: len(whole) // 2],
        "magic.glb": b"XXXX" + whole[4:],
        "text.glb": b"no mesh, but a file with more than twenty bytes",
        "json.glb": whole[:20] + b"{" * 50 + whole[70:],
        "list.gltf": b"[1, 2]",
        "bytes.gltf": b"\xff\xfe",
        "asset.gltf": b'{"asset": 3}',
        "cut.mp4": b"\0\0\0 ftyp",
        "a.png": b"x",
        "a.json": b"{}",
        "b.json": b"\xff",
        "other.json": record.to_json().replace('"seed"', '"sead"').encode(),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_record(tmp_path / name)
        assert name in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_record_beside_a_file_is_of_that_file(tmp_path: Path, record: RunRecord) -> None:
    """Killed between the two, a new file lies beside the record of the old one."""
    file = tmp_path / "a.obj"
    file.write_text("v 0 0 0")
    write_sidecar(file, record, hashlib.sha256(b"v 0 0 0").hexdigest())
    assert read_record(file) == record
    first = sidecar(file).read_bytes()
    write_sidecar(file, record)
    assert sidecar(file).read_bytes() == first
    assert read_record(sidecar(file)) == record
    file.write_text("v 1 1 1")
    with pytest.raises(InputError, match=r"expected the file that a.obj.json is about, got another"):
        read_record(file)
    sidecar(file).write_text(record.to_json())  # of an older version, which named no file
    assert read_record(file) == record
    write_sidecar(file, None)
    assert not sidecar(file).exists()
    sidecar(file).write_text('{"somebody": "else"}')
    write_sidecar(file, None)
    assert sidecar(file).exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values["recipe"].pop("model"), "the recipe names no model"),
        (lambda values: values["recipe"].update(model=3), "the recipe names no model"),
        (lambda values: values["recipe"].pop("seed"), "the recipe's seed is None, the record's 7"),
        (lambda values: values.update(seed=8), "the recipe's seed is 7, the record's 8"),
        (lambda values: values.update(seed=7.5), "valid integer (seed)"),
        (lambda values: values["recipe"].update(seed=True) or values.update(seed=1), "the recipe's seed is True"),
        (lambda values: values.update(command="song\x1b]0;x\a"), "should match pattern"),
        (lambda values: values["recipe"].update(guidance_scale=float("nan")), "NaN, which is no number"),
        (lambda values: values["recipe"].update(guidance_scale=-float("inf")), "-Infinity, which is no number"),
    ],
)
def test_a_record_that_no_run_left_is_refused_when_it_is_read(tmp_path, record, change, words) -> None:
    values = json.loads(record.to_json())
    change(values)
    text = json.dumps(values)
    (tmp_path / "a.json").write_text(text)
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8), {TAG: text})
    write_clip(tmp_path / "a.mp4", np.zeros((1, 8, 8, 3), np.uint8), 8, {TAG: text})
    for name in ("a.json", "a.png", "a.mp4"):
        with pytest.raises(InputError) as caught:
            read_record(tmp_path / name)
        assert words in str(caught.value)


def test_numbers_beyond_all_and_json_as_deep_as_a_well_are_refused_by_every_reader(tmp_path, record) -> None:
    deep = b"[" * 100_000
    deeper = b'{"asset": {"extras": ' + b'{"a":' * 900 + b"1" + b"}" * 902
    huge = record.to_json().replace("7.5", "1e999").encode()
    (tmp_path / "frames").mkdir()
    (tmp_path / "a.obj").write_text("v 0 0 0")
    glb_of = lambda text: struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text  # noqa: E731
    for text in (deep, deeper, huge):
        for name, data in {
            "a.json": text,
            "a.obj.json": text,
            "a.gltf": text,
            "a.glb": glb_of(text),
            "a.latents.safetensors": struct.pack("<Q", len(text)) + text,
            "frames/clip.json": text,
        }.items():
            (tmp_path / name).write_bytes(data)
        for name in ("a.json", "a.obj", "a.gltf", "a.glb", "a.latents.safetensors", "frames"):
            with pytest.raises(InputError) as caught:
                read_record(tmp_path / name)
            assert len(str(caught.value).splitlines()) == 1


def test_somebody_elses_comment_is_no_record(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8), 8, {TAG: "filmed in May"})
    with pytest.raises(InputError, match="a kinoform run record"):
        read_record(tmp_path / "a.mp4")
