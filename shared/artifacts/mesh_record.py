"""Run records inside mesh files, as text: where each format holds them, and how they are read back. No torch here.

GLB, glTF   `asset.extras.kinoform`
OBJ, PLY    comment lines `# kinoform ...` and `comment kinoform ...`, whose texts together are the record: in parts,
            because readers exist whose lines end after 1024 characters
3MF         the metadata `kinoform:record` of the model
USDZ        `customLayerData["kinoform"]` of the root layer; usd-core reads it
STL has no room. Files of others are read here too: sizes are checked before anything is unpacked or parsed.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from shared.artifacts.tag import TAG
from shared.errors import InputError

MAX_RECORD_BYTES = 16 * 1024**2
COMMENT_WIDTH = 200  # characters of a record in one comment line

GLB_MAGIC, GLB_JSON = 0x46546C67, 0x4E4F534A  # "glTF" and "JSON" in little-endian
MODEL_3MF = "3D/3dmodel.model"  # of a 3MF package
CORE_3MF = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
XML_STEP = 1 << 16  # bytes parsed at once
RECORD_3MF = f"{TAG}:record"
USD_INSTALL = "pip install 'kinoform[usd]'"


def mesh_record_text(path: Path) -> str | None:
    """The record's text in a file of MESH_RECORD_READERS, None when it has none.

    Raises InputError for a file that cannot be read, is damaged, or needs a package that is not there.
    """
    try:
        return MESH_RECORD_READERS[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(f"file {path}", expected="a readable file", got=error.strerror or str(error)) from error


def check_usd() -> None:
    """InputError, with what to install, where usd-core is not there. Imports nothing."""
    if importlib.util.find_spec("pxr") is None:
        raise InputError(".usdz", expected="the package usd-core", got="none installed", hint=f"{USD_INSTALL}.")


def comment_lines(prefix: str, text: str) -> list[str]:
    """`text` in lines of a comment, each "<prefix> kinoform <part>"; no part begins or ends with a space if it can."""
    lines = []
    while text:
        cut = COMMENT_WIDTH
        while cut > COMMENT_WIDTH // 2 and " " in text[cut - 1 : cut + 1]:
            cut -= 1
        lines.append(f"{prefix} {TAG} {text[:cut]}")
        text = text[cut:]
    return lines


def glb_with_record(glb: bytes, text: str) -> bytes:
    """The same GLB with a record in `asset.extras.kinoform`. glTF 2.0, section 4.4: header, JSON, other chunks."""
    document, rest = _split_glb(glb, "glb")
    extras = document["asset"].get("extras")
    document["asset"]["extras"] = {**(extras if isinstance(extras, dict) else {}), TAG: json.loads(text)}
    return join_glb(document, rest)


def join_glb(document: dict[str, Any], rest: bytes) -> bytes:
    """A GLB from its JSON and the chunks after that, whole with their headers."""
    body = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    body += b" " * (-len(body) % 4)
    header = struct.pack("<III", GLB_MAGIC, 2, 12 + 8 + len(body) + len(rest))
    return header + struct.pack("<II", len(body), GLB_JSON) + body + rest


def _split_glb(data: bytes, source: str) -> tuple[dict[str, Any], bytes]:
    """The JSON chunk of a GLB, parsed, and the bytes of the chunks after it."""
    wanted = "a GLB file (glTF 2.0, binary)"
    if len(data) < 20:
        raise InputError(source, expected=wanted, got=f"{len(data)} bytes")
    magic, version, length, json_length, kind = struct.unpack_from("<IIIII", data)
    if magic != GLB_MAGIC or version != 2 or kind != GLB_JSON or length != len(data) or 20 + json_length > length:
        raise InputError(source, expected=wanted, got="another or a damaged file")
    return _parsed(data[20 : 20 + json_length], source), data[20 + json_length :]


def _parsed(data: bytes, source: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(source, expected="glTF JSON", got=str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
        raise InputError(source, expected="glTF JSON with an asset", got=document)
    return document


def _from_gltf(path: Path) -> str | None:
    data = path.read_bytes()
    source = f"file {path}"
    document = _split_glb(data, source)[0] if path.suffix.lower() == ".glb" else _parsed(data, source)
    extras = document["asset"].get("extras")
    return json.dumps(extras[TAG]) if isinstance(extras, dict) and TAG in extras else None


def _from_obj(path: Path) -> str | None:
    """From the lines before the first vertex."""
    return _from_comments(path, b"#", lambda line: not line.strip() or line.startswith((b"#", b"mtllib")))


def _from_ply(path: Path) -> str | None:
    return _from_comments(path, b"comment", lambda line: line.rstrip() != b"end_header")


def _from_comments(path: Path, prefix: bytes, is_head: Callable[[bytes], bool]) -> str | None:
    wanted = prefix + b" " + TAG.encode() + b" "
    parts = [line[len(wanted) :].rstrip(b"\r\n") for line in _head(path, is_head) if line.startswith(wanted)]
    return b"".join(parts).decode("utf-8", "replace") or None


def _head(path: Path, is_head: Callable[[bytes], bool]) -> Iterator[bytes]:
    left = MAX_RECORD_BYTES
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(left)) and is_head(line):
            left -= len(line)
            yield line


def _from_3mf(path: Path) -> str | None:
    """From the metadata of the model, which come before its mesh: no more than the head is unpacked."""
    wanted = "a whole 3MF file"
    try:
        with zipfile.ZipFile(path) as package, package.open(MODEL_3MF) as model:
            parser: Any = ElementTree.XMLPullParser(("start", "end"))
            for _ in range(MAX_RECORD_BYTES // XML_STEP):
                part = model.read(XML_STEP)
                if not part:
                    return None
                if b"<!DOCTYPE" in part:  # 3MF has none, and entities can grow without end
                    raise InputError(f"file {path}", expected=wanted, got="an XML document type")
                parser.feed(part)
                for event, element in parser.read_events():
                    if element.tag == f"{{{CORE_3MF}}}resources":
                        return None
                    is_record = element.tag == f"{{{CORE_3MF}}}metadata" and element.get("name") == RECORD_3MF
                    if event == "end" and is_record:
                        return element.text
    # RuntimeError: a password. NotImplementedError: a packing method that Python does not know.
    except (zipfile.BadZipFile, KeyError, SyntaxError, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"file {path}", expected=wanted, got=str(error)) from error
    return None


def _from_usdz(path: Path) -> str | None:
    check_usd()
    from pxr import Sdf, Tf

    try:
        layer = Sdf.Layer.OpenAsAnonymous(str(path.resolve()))  # as it lies there, not as somebody has it open
    except Tf.ErrorException as error:
        raise InputError(f"file {path}", expected="a whole USDZ file", got=str(error)) from error
    if layer is None:
        raise InputError(f"file {path}", expected="a whole USDZ file", got="another or a damaged file")
    text = layer.customLayerData.get(TAG)
    return text if isinstance(text, str) else None


MESH_RECORD_READERS: dict[str, Callable[[Path], str | None]] = {
    ".glb": _from_gltf,
    ".gltf": _from_gltf,
    ".obj": _from_obj,
    ".ply": _from_ply,
    ".3mf": _from_3mf,
    ".usdz": _from_usdz,
}
