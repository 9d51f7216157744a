"""How mesh files look in a real browser: mean colours by three.js in headless Chromium beside our own render's.

    npm install --prefix DIR three @google/model-viewer
    kinoform asset "a red chair" --preset draft -o red-chair.glb
    python -m benchmarks.asset_browser --modules DIR/node_modules [--chromium FILE] [--out DIR] [--json] [FILE.glb ...]

Needs Node's npm for the two packages and a Chromium or Chrome (Debian's package: chromium); no graphics card. The GLBs
named are shown as they are, exact meshes of CAPTIONS as GLB; both as OBJ with MTL and as PLY, too.

unlit    under even white light: what the file says its colours are, with our unlit colours beside it.
lit      under our turntable's ambient and directional light, with our turntable's render beside it. We shade
         display-referred values, c (l_a + l_d n.l), as pictures of the world are shaded; renderers shade linear light,
         so theirs has the two intensities whose display-referred factor is nearest to ours over n.l in [0, 1].
same numbers   ours as theirs, not the nearest: how much lighter linear shading is. Told, not judged.
model-viewer   as it comes, with its own light and tone mapping, beside our unlit colours. Told, not judged.

Every number is the largest distance, in levels of 255, between two means over the pixels that ours covers, over
channels and views. --out takes sheet.png: for each mesh ours, GLB, OBJ and PLY lit, ours and GLB unlit, model-viewer.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import minimize

from benchmarks.browser import Studio, take_pictures
from benchmarks.report import Row, as_json, table
from dreamfusion.mesh.files.write import load_mesh, write_mesh
from dreamfusion.mesh.raster import rasterise
from dreamfusion.mesh.turntable import render_mesh
from dreamfusion.render.shading import AMBIENT, DIFFUSE
from dreamfusion.views import Views, around
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.formats.image_file import write_image
from shared.cameras import CAMERA_RADIUS, FOV_Y
from shared.errors import InputError, KinoformError
from world.mesh import scene_mesh
from world.prompt import Composition
from world.scene import arrange

CAPTIONS = (
    "a red chair",
    "a blue chair",
    "a white teapot",
    "a black car",
    "a purple lamp",
    "a yellow cube on top of a green sphere",
)
PAGE = Path(__file__).with_suffix(".html")
FORMATS = (".glb", ".obj", ".ply")
VIEWS, SIZE = 4, 256
AIM = 8.0  # levels

Pictures = UInt8[np.ndarray, "n h w 4"]


@dataclass(frozen=True)
class Job:
    """One picture to take: of which file, by which viewer, of which view and under which light's name."""

    file: str
    viewer: str
    light: str
    view: int

    @property
    def name(self) -> str:
        return f"{self.file}-{self.light}-{self.view}"


def linear_light() -> tuple[float, float]:
    """Ambient and diffuse intensity, linear, whose display-referred sum is nearest to AMBIENT + DIFFUSE n.l."""
    x = np.linspace(0, 1, 101)

    def loss(light: np.ndarray) -> float:
        return float(np.square(_encoded(light[0] + light[1] * x) - (AMBIENT + DIFFUSE * x)).sum())

    best = minimize(loss, np.array([0.1, 0.9]), method="Nelder-Mead").x
    return float(best[0]), float(best[1])


def _encoded(linear: np.ndarray) -> np.ndarray:
    v = np.maximum(linear, 0)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def covered(mesh: trimesh.Trimesh, views: Views) -> Bool[np.ndarray, "n h w"]:
    """Pixels that the mesh fills, corners and all: the ones at its edge are left out."""
    vertices = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    faces = torch.tensor(np.asarray(mesh.faces), dtype=torch.int64)
    size = views.cameras.height
    fine = [
        rasterise(vertices, faces, views.cameras[i].resized(3 * size, 3 * size)).face >= 0 for i in range(len(views))
    ]
    return torch.stack(fine).view(len(views), size, 3, size, 3).all(dim=4).all(dim=2).numpy()


def means(pictures: UInt8[np.ndarray, "n h w c"], mask: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 3"]:
    return np.stack([picture[..., :3][inside].mean(axis=0) for picture, inside in zip(pictures, mask, strict=True)])


def plan(names: Sequence[str], *, model_viewer: bool) -> list[Job]:
    """Every mesh in every format unlit and lit by three.js; GLBs under our numbers and by model-viewer too."""
    jobs = []
    for name in names:
        for file in (f"{name}{suffix}" for suffix in FORMATS):
            jobs += [Job(file, "three", light, view) for light in ("unlit", "lit") for view in range(VIEWS)]
        jobs += [Job(f"{name}.glb", "three", "same numbers", view) for view in range(VIEWS)]
        if model_viewer:
            jobs += [Job(f"{name}.glb", "model-viewer", "model-viewer", view) for view in range(VIEWS)]
    return jobs


def as_page_wants(job: Job, views: Views, lights: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Lengths in the world's units, angles in degrees."""
    ambient, diffuse = lights.get(job.light, (0.0, 0.0))
    return {
        "name": job.name,
        "file": job.file,
        "viewer": job.viewer,
        "ambient": ambient,
        "diffuse": diffuse,
        "size": views.cameras.height,
        "fov": float(np.degrees(FOV_Y)),
        "eye": views.cameras.origins[job.view].tolist(),
        "light": views.light[job.view].tolist(),
        "orbit": [views.azimuth[job.view], views.elevation[job.view], CAMERA_RADIUS],
    }


def measure(mesh: trimesh.Trimesh, name: str, views: Views, jobs: Sequence[Job], taken: dict[str, Any]) -> list[Row]:
    """A row for each file and light. KinoformError when a picture shows the mesh elsewhere than ours."""
    mask = covered(mesh, views)
    lit, unlit = render_mesh(mesh, views), render_mesh(mesh, views, shading="albedo")
    rows = []
    for file, light in dict.fromkeys((job.file, job.light) for job in jobs if Path(job.file).stem == name):
        theirs: Pictures = np.stack([taken[Job(file, "", light, view).name] for view in range(len(views))])
        if (filled := float((theirs[..., 3][mask] == 255).mean())) < 0.99:
            raise KinoformError(f"{file}, {light}", expected="its pixels where ours are", got=f"{filled:.0%} of them")
        ours = lit if light in ("lit", "same numbers") else unlit
        off = float(np.abs(means(theirs, mask) - means(ours, mask)).max())
        judged = AIM if light in ("lit", "unlit") else None
        rows.append(Row(f"{file} {light}", off, len(views), math.nan, math.nan, judged, at_most=True))
    return rows


def sheet_row(mesh: trimesh.Trimesh, name: str, views: Views, taken: dict[str, Any]) -> list[np.ndarray]:
    """The first view: ours, GLB, OBJ and PLY lit; ours and GLB unlit; model-viewer where it is there."""
    keys = [*(f"{name}{suffix}-lit-0" for suffix in FORMATS), f"{name}.glb-unlit-0", f"{name}.glb-model-viewer-0"]
    lit, unlit = (render_mesh(mesh, views, shading=shading)[0] for shading in ("lambertian", "albedo"))
    shown = [on_grey(taken[key]) for key in keys if key in taken]
    return [lit, *shown[:3], unlit, *shown[3:]]


def sheet_label(name: str, rows: Sequence[Row]) -> str:
    lit = {row.metric: row.value for row in rows}
    return f"{name}, levels off when lit: " + ", ".join(f"{s[1:].upper()} {lit[f'{name}{s} lit']:.1f}" for s in FORMATS)


def on_grey(picture: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Over the grey that our renders stand on."""
    alpha = picture[..., 3:] / 255.0
    return np.round(picture[..., :3] * alpha + 127.5 * (1 - alpha)).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="GLBs of kinoform to look at as well")
    parser.add_argument("--modules", type=Path, required=True, help="a node_modules folder with three")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--out", type=Path, help="folder for sheet.png")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    modules = args.modules.resolve()
    if not (modules / "three").is_dir():
        raise InputError("modules", expected="a folder with three", got=modules, hint="npm install --prefix DIR three")
    if not args.chromium:
        raise InputError("chromium", expected="a browser", got="none on the path")

    if any(file.suffix != ".glb" for file in args.files) or len({file.stem for file in args.files}) < len(args.files):
        raise InputError("files", expected="GLBs of different names", got=" ".join(map(str, args.files)))

    views = around(VIEWS, SIZE, start=20.0)
    lights = {"unlit": (1.0, 0.0), "lit": linear_light(), "same numbers": (AMBIENT, DIFFUSE)}
    meshes = {file.stem: load_mesh(file) for file in args.files}
    meshes |= {f"exact {caption}": scene_mesh(arrange(Composition.parse(caption))) for caption in CAPTIONS}
    jobs = plan(list(meshes), model_viewer=(modules / "@google" / "model-viewer").is_dir())
    with tempfile.TemporaryDirectory() as folder:
        for name, mesh in meshes.items():
            for suffix in FORMATS:
                write_mesh(Path(folder) / f"{name}{suffix}", mesh)
        for file in args.files:
            shutil.copy(file, folder)
        studio = Studio(PAGE, Path(folder).resolve(), modules, [as_page_wants(job, views, lights) for job in jobs])
        take_pictures(studio, args.chromium)

    rows = [row for name, mesh in meshes.items() for row in measure(mesh, name, views, jobs, studio.pictures)]
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        pictures = [sheet_row(mesh, name, views, studio.pictures) for name, mesh in meshes.items()]
        write_image(args.out / "sheet.png", contact_sheet(pictures, [sheet_label(name, rows) for name in meshes]))
    print(as_json(rows, lights=lights) if args.json else table(rows))


if __name__ == "__main__":
    main()
