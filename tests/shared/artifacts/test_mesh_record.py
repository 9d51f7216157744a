import importlib.util
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from shared.artifacts.formats.image_file import TAG
from shared.artifacts.mesh_record import (
    COMMENT_WIDTH,
    MESH_RECORD_READERS,
    check_usd,
    comment_lines,
    glb_with_record,
    mesh_record_text,
)
from shared.errors import InputError

RECORD = {"prompt": 'a "réd" cube 日本', "hashes": ["ab" * 32] * 9, "size": [64, 64], "none": None}
TEXT = json.dumps(RECORD, sort_keys=True)
CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"


def glb() -> bytes:
    mesh = trimesh.creation.box()
    mesh.visual.vertex_colors = np.full((8, 4), (200, 30, 30, 255), np.uint8)
    data = mesh.export(file_type="glb")
    assert isinstance(data, bytes)
    return data


def test_a_glb_keeps_its_mesh_and_other_readers_see_the_record(tmp_path: Path) -> None:
    data = glb_with_record(glb(), TEXT)
    mesh = trimesh.load(trimesh.util.wrap_as_stream(data), file_type="glb", force="mesh")
    assert mesh.volume == pytest.approx(1.0)
    assert tuple(mesh.visual.vertex_colors[0]) == (200, 30, 30, 255)
    # The glTF container by hand: 12 bytes of header, then length, "JSON" and the text, padded to 4 with spaces.
    magic, version, length, json_length = struct.unpack("<4sIII", data[:16])
    assert (magic, version, length, json_length % 4) == (b"glTF", 2, len(data), 0)
    document = json.loads(data[20 : 20 + json_length])
    assert document["asset"]["extras"][TAG] == RECORD
    assert data[20 + json_length :] == glb()[-(len(data) - 20 - json_length) :]
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    (tmp_path / "a.glb").write_bytes(data)
    for name in ("a.gltf", "a.glb"):
        assert json.loads(mesh_record_text(tmp_path / name) or "") == RECORD


def test_writing_a_record_twice_is_writing_it_once() -> None:
    once = glb_with_record(glb(), TEXT)
    assert glb_with_record(once, TEXT) == once


def test_a_gltf_with_other_extras_keeps_them() -> None:
    document = {"asset": {"version": "2.0", "extras": {"by": "me"}}}
    body = json.dumps(document).encode()
    body += b" " * (-len(body) % 4)
    data = struct.pack("<4sIIII", b"glTF", 2, 20 + len(body), len(body), 0x4E4F534A) + body
    found = json.loads(glb_with_record(data, TEXT)[20:])["asset"]["extras"]
    assert found["by"] == "me"
    assert set(found) == {"by", TAG}


@pytest.mark.parametrize("text", ["", "{}", TEXT, "x" * 1000, " " * 1000, "ab cd " * 200 + "e", "x" * COMMENT_WIDTH])
def test_comment_lines_hold_any_text_in_short_lines(text: str) -> None:
    lines = comment_lines("#", text)
    assert all(line.startswith("# kinoform ") and len(line) <= COMMENT_WIDTH + 11 for line in lines)
    assert "".join(line.removeprefix("# kinoform ") for line in lines) == text
    if "   " not in text:  # editors that cut spaces from the ends of lines do no harm
        assert all(line == line.rstrip() and line[11] != " " for line in lines)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_are_read_from_the_head_alone(tmp_path: Path, newline: str) -> None:
    obj, ply = tmp_path / "a.obj", tmp_path / "a.ply"
    head = ["# other words", "mtllib x.mtl", "", *comment_lines("#", TEXT)]
    obj.write_text(newline.join([*head, "v 0 0 0", "# kinoform late"]) + newline, newline="")
    assert mesh_record_text(obj) == TEXT
    head = ["ply", "format ascii 1.0", "comment of others", *comment_lines("comment", TEXT), "element vertex 0"]
    ply.write_text(newline.join([*head, "end_header", "comment kinoform late"]) + newline, newline="")
    assert mesh_record_text(ply) == TEXT
    for file in (obj, ply):
        file.write_bytes(b"\xff\x00" * 100_000)  # no line ends at all
        assert mesh_record_text(file) is None


def model_3mf(path: Path, body: str, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as package:
        package.writestr("3D/3dmodel.model", body)
    return path


def test_3mf_metadata_are_read(tmp_path: Path) -> None:
    text = TEXT.replace('"', "&quot;")
    body = (
        f'<model xmlns="{CORE}"><metadata name="Title">x</metadata><metadata name="kinoform:record">{text}</metadata>'
    )
    assert mesh_record_text(model_3mf(tmp_path / "a.3mf", f"{body}<resources/></model>")) == TEXT
    without = f'<model xmlns="{CORE}"><metadata name="Title">x</metadata><resources/></model>'
    assert mesh_record_text(model_3mf(tmp_path / "b.3mf", without)) is None


def test_a_hostile_3mf_costs_little(tmp_path: Path) -> None:
    """A gigabyte of spaces in a megabyte of ZIP; entities that grow without end; damage of every kind."""
    bomb = tmp_path / "bomb.3mf"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as package, package.open("3D/3dmodel.model", "w") as model:
        model.write(f'<model xmlns="{CORE}">'.encode())
        for _ in range(64):
            model.write(b" " * 2**20)
    assert mesh_record_text(bomb) is None
    entities = '<!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><m>&b;</m>'
    whole = model_3mf(tmp_path / "whole.3mf", f'<model xmlns="{CORE}"><resources/></model>').read_bytes()
    cut = bytearray(whole)
    cut[60] ^= 0xFF
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        package.writestr("other", "x")
    broken = {
        "entities.3mf": model_3mf(tmp_path / "entities.3mf", entities).read_bytes(),
        "xml.3mf": model_3mf(tmp_path / "xml.3mf", "<model><<").read_bytes(),
        "short.3mf": whole[:40],
        "cut.3mf": bytes(cut),
        "empty.3mf": b"",
        "other.3mf": stream.getvalue(),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}: expected a whole 3MF file") as caught:
            mesh_record_text(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", MESH_RECORD_READERS)
def test_no_file_is_one_line(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError):
        mesh_record_text(tmp_path / f"none{suffix}")


def test_usd_is_named_where_it_is_missing() -> None:
    if importlib.util.find_spec("pxr"):
        check_usd()
    else:
        print("usd-core is not installed: the refusal is tested")
        with pytest.raises(InputError, match=r"expected the package usd-core.*pip install 'kinoform\[usd\]'"):
            check_usd()
