import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from shared.errors import InputError
from shared.media import TAG, write_clip, write_image
from shared.mesh_record import comment_lines, glb_with_record
from shared.run_record import RunRecord, installed_versions, read_record, write_sidecar
from shared.version import VERSION

RECIPE = {"prompt": 'a "réd" cube 日本', "frames": 16, "guidance_scale": 7.5, "image": None, "size": [64, 64]}


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


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.webm", "a.gif", "frames", "a.png", "a.jpg", "a.webp", "a.glb", "a.obj", "a.stl"]
)
def test_every_artifact_carries_its_record(tmp_path: Path, name: str, record: RunRecord) -> None:
    file = tmp_path / name
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    if file.suffix in (".png", ".jpg", ".webp"):
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
    assert (tmp_path / f"{name}.json").exists() == (file.suffix in (".jpg", ".webp", ".stl"))


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


def test_somebody_elses_comment_is_no_record(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8), 8, {TAG: "filmed in May"})
    with pytest.raises(InputError, match="a kinoform run record"):
        read_record(tmp_path / "a.mp4")
