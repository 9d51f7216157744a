"""OBJ with its MTL and the picture that holds the colours; y up, front +z, colours display-referred.

Most readers of OBJ know no vertex colours (Blender keeps them and shows grey), and those that do multiply them with
the material's; so the colours are a picture (`face_texture`). MTL and picture are named by what is in them: an OBJ that
is there always finds its own, whenever writing was cut short, and the OBJ's bytes do not depend on its name.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from dreamfusion.mesh.files.face_texture import face_texture, png_bytes
from dreamfusion.mesh.files.gltf import ROUGHNESS, unit_normals
from shared.artifacts.files import write_bytes
from shared.artifacts.mesh_record import comment_lines

HEAD_BYTES = 4096  # of an OBJ, in which its MTL is named
MTLLIB = re.compile(rb"^mtllib (kinoform-[0-9a-f]{16})\.mtl\r?$", re.MULTILINE)


@dataclass(frozen=True)
class ObjFiles:
    """The bytes of an OBJ, and of the files that it names: `<name>.mtl` and `<name>.png`."""

    obj: bytes
    mtl: bytes
    png: bytes
    name: str


def obj_files(mesh: trimesh.Trimesh, record_text: str = "") -> ObjFiles:
    """A mesh with vertex colours as OBJ, with a run record in its comments; the same input gives the same bytes."""
    pixels, uv = face_texture(mesh)
    png = png_bytes(pixels)
    name = f"kinoform-{hashlib.sha256(png).hexdigest()[:16]}"
    mtl = (
        f"newmtl matte\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nNs 10\nd 1\nillum 1\nPr {ROUGHNESS}\nPm 0\nmap_Kd {name}.png\n"
    ).encode()
    faces = np.asarray(mesh.faces) + 1
    corners = np.arange(1, faces.size + 1).reshape(-1, 3)
    lines = ["# kinoform", f"mtllib {name}.mtl", *comment_lines("#", record_text)]
    lines += ["v {:.7f} {:.7f} {:.7f}".format(*row) for row in np.asarray(mesh.vertices).tolist()]
    lines += ["vt {:.8f} {:.8f}".format(*row) for row in uv.reshape(-1, 2).tolist()]
    lines += ["vn {:.5f} {:.5f} {:.5f}".format(*row) for row in unit_normals(mesh).tolist()]
    lines += ["o asset", "usemtl matte", "s 1"]
    for (a, b, c), (s, t, u) in zip(faces.tolist(), corners.tolist(), strict=True):
        lines.append(f"f {a}/{s}/{a} {b}/{t}/{b} {c}/{u}/{c}")
    return ObjFiles(("\n".join(lines) + "\n").encode(), mtl, png, name)


def write_obj(path: str | os.PathLike[str], files: ObjFiles) -> None:
    """Write all three: the OBJ last, so that what it names is there. What only an earlier OBJ of this name used goes.

    Raises what `shared.artifacts.files.write_bytes` raises.
    """
    folder = Path(path).resolve().parent
    earlier = _material_of(Path(path))
    write_bytes(folder / f"{files.name}.png", files.png)
    write_bytes(folder / f"{files.name}.mtl", files.mtl)
    write_bytes(path, files.obj)
    if earlier and all(_material_of(other) != earlier for other in folder.iterdir() if other.suffix.lower() == ".obj"):
        for suffix in (".mtl", ".png"):
            with suppress(OSError):
                (folder / f"{earlier}{suffix}").unlink()


def _material_of(obj: Path) -> str | None:
    """The name of the MTL that an OBJ of ours names."""
    with suppress(OSError), obj.open("rb") as file:
        found = MTLLIB.search(file.read(HEAD_BYTES))
        return found[1].decode() if found else None
    return None
