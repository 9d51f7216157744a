"""How mesh files look in a real browser: mean colours by three.js in headless Chromium beside our own render's.

    npm install --prefix DIR three @google/model-viewer
    python -m benchmarks.asset_browser --modules DIR/node_modules [--chromium FILE] [--out DIR] [--json] [FILE.glb ...]

albedo   under even white light: what the file says its colours are, with our unlit colours beside it.
lit      under our turntable's ambient and directional light, with our turntable's render beside it. We shade
         display-referred values, c (l_a + l_d n.l), as pictures of the world are shaded; renderers shade linear light,
         so theirs has the two intensities whose display-referred factor is nearest to ours over n.l in [0, 1].
viewer   model-viewer as it comes, with its own light and tone mapping: told, not judged.
Every number is the largest distance, in levels of 255, between two means over the pixels that ours covers, over
channels and views.
"""

from __future__ import annotations

import argparse
import base64
import http.server
import io
import json
import mimetypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.optimize import minimize

from benchmarks.report import Row, as_json, table
from dreamfusion.files.write import load_mesh, write_mesh
from dreamfusion.raster import rasterise
from dreamfusion.shading import AMBIENT, DIFFUSE
from dreamfusion.turntable import render_mesh
from dreamfusion.views import CAMERA_RADIUS, FOV_Y, Views, around
from shared.media import write_image
from shared.world.mesh import scene_mesh
from shared.world.prompt import Composition
from shared.world.scene import arrange

CAPTIONS = (
    "a red chair",
    "a blue chair",
    "a white teapot",
    "a black car",
    "a purple lamp",
    "a yellow cube on top of a green sphere",
)
ROOT = Path(__file__).parent
VIEWS, SIZE = 4, 256
AIM = 8.0  # levels
PATIENCE = 300  # seconds for all pictures


@dataclass(frozen=True)
class Job:
    """One picture to take: `name` of it, `file` to show, by which viewer, from and under what."""

    name: str
    file: str
    viewer: str
    view: int
    ambient: float = 0.0
    diffuse: float = 0.0


@dataclass
class Studio:
    """What a page needs: folders to serve, jobs to hand out; and what came back from it."""

    files: Path
    modules: Path
    jobs: list[dict[str, Any]]
    pictures: dict[str, UInt8[np.ndarray, "h w 4"]] = field(default_factory=dict)
    error: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


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


def take_pictures(studio: Studio, chromium: str) -> None:
    """Serve the page on this machine alone, let a browser without a window run it, and wait for its pictures."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            folder, _, rest = self.path.split("?")[0].lstrip("/").partition("/")
            roots = {"files": studio.files, "modules": studio.modules}
            if folder == "jobs":
                self._answer(json.dumps(studio.jobs).encode(), "application/json")
            elif not folder:
                self._answer((ROOT / "asset_browser.html").read_bytes(), "text/html")
            elif folder in roots and (file := (roots[folder] / rest).resolve()).is_relative_to(roots[folder]):
                if not file.is_file():
                    return self.send_error(404)
                kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0]
                self._answer(file.read_bytes(), kind or "application/octet-stream")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            name, body = self.path.rpartition("/")[2], self.rfile.read(int(self.headers["Content-Length"] or 0))
            if name == "error":
                studio.error = body.decode()
            elif name != "end":
                png = base64.b64decode(body.partition(b",")[2])
                studio.pictures[name] = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))
            self._answer(b"", "text/plain")
            if name in ("error", "end"):
                studio.ended.set()

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"]
        flags += ["--force-color-profile=srgb", f"--user-data-dir={profile}", "--no-first-run"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        browser = subprocess.Popen([chromium, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not studio.ended.wait(PATIENCE):
                studio.error = f"no answer in {PATIENCE} s"
        finally:
            browser.terminate()
            browser.wait(20)
            server.shutdown()
    if studio.error:
        raise SystemExit(f"the page failed: {studio.error}")


def covered(mesh: trimesh.Trimesh, views: Views) -> Bool[np.ndarray, "n h w"]:
    """Pixels that the mesh fills, corners and all: the ones at its edge are left out."""
    vertices = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    faces = torch.tensor(np.asarray(mesh.faces), dtype=torch.int64)
    fine = [rasterise(vertices, faces, views.cameras[i].resized(3 * SIZE, 3 * SIZE)).face >= 0 for i in range(VIEWS)]
    return torch.stack(fine).view(VIEWS, SIZE, 3, SIZE, 3).all(dim=4).all(dim=2).numpy()


def means(pictures: UInt8[np.ndarray, "n h w c"], mask: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 3"]:
    return np.stack([picture[..., :3][inside].mean(axis=0) for picture, inside in zip(pictures, mask, strict=True)])


def plan(files: list[str], light: tuple[float, float], viewer: bool) -> list[Job]:
    """Every file even and lit by three.js; GLBs by model-viewer too."""
    jobs = []
    for file in files:
        for view in range(VIEWS):
            jobs.append(Job(f"{file}-albedo-{view}", file, "three", view, ambient=1.0))
            jobs.append(Job(f"{file}-lit-{view}", file, "three", view, *light))
        if viewer and file.endswith(".glb"):
            jobs.append(Job(f"{file}-viewer-0", file, "model-viewer", 0))
    return jobs


def as_page_wants(job: Job, views: Views) -> dict[str, Any]:
    return {
        **job.__dict__,
        "size": SIZE,
        "fov": float(np.degrees(FOV_Y)),
        "eye": views.cameras.origins[job.view].tolist(),
        "light": views.light[job.view].tolist(),
        "orbit": [views.azimuth[job.view], views.elevation[job.view], CAMERA_RADIUS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="GLBs of kinoform to look at as well")
    parser.add_argument("--modules", default=os.environ.get("KINOFORM_NODE_MODULES"), help="a node_modules folder")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--out", help="folder for the pictures: three.js, ours and model-viewer")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.modules or not (Path(args.modules) / "three").is_dir():
        raise SystemExit("--modules: expected a node_modules folder with three. npm install --prefix DIR three")
    if not args.chromium:
        raise SystemExit("--chromium: expected a Chromium, got none on the path")

    views, light = around(VIEWS, SIZE, start=20.0), linear_light()
    meshes = {caption.replace(" ", "_"): scene_mesh(arrange(Composition.parse(caption))) for caption in CAPTIONS}
    meshes |= {Path(file).stem: load_mesh(file) for file in args.files}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, mesh in meshes.items():
            for suffix in (".glb", ".obj"):
                write_mesh(Path(folder) / f"{name}{suffix}", mesh)
                files.append(f"{name}{suffix}")
        modules = Path(args.modules).resolve()
        jobs = plan(files, light, (modules / "@google" / "model-viewer").is_dir())
        studio = Studio(Path(folder).resolve(), modules, [as_page_wants(job, views) for job in jobs])
        take_pictures(studio, args.chromium)

    rows = []
    for name, mesh in meshes.items():
        mask = covered(mesh, views)
        ours = {
            "albedo": render_mesh(mesh, views, shading="albedo"),
            "lit": render_mesh(mesh, views),
        }
        for suffix in (".glb", ".obj"):
            for kind, own in ours.items():
                theirs = np.stack([studio.pictures[f"{name}{suffix}-{kind}-{view}"] for view in range(VIEWS)])
                assert (theirs[..., 3][mask] == 255).mean() > 0.995, "seen from elsewhere"
                off = np.abs(means(theirs, mask) - means(own, mask)).max(axis=1)
                rows.append(Row(f"{name}{suffix} {kind}", off.max(), VIEWS, off.min(), off.max(), AIM, at_most=True))
        if f"{name}.glb-viewer-0" in studio.pictures:
            shown = studio.pictures[f"{name}.glb-viewer-0"][None]  # nearer than ours: over the pixels that it covers
            got, wanted = means(shown, shown[..., 3] == 255)[0], means(ours["albedo"][:1], mask[:1])[0]
            pair = f"model-viewer {got.round().astype(int)}, ours unlit {wanted.round().astype(int)}"
            print(f"  {name}: {pair}", file=sys.stderr)
    if args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)
        for name, picture in studio.pictures.items():
            write_image(Path(args.out) / f"{name}.png", on_grey(picture[None])[0])
        for name, mesh in meshes.items():
            for view, picture in enumerate(render_mesh(mesh, views)):
                write_image(Path(args.out) / f"{name}-ours-{view}.png", picture)
    print(as_json(rows, light=light) if args.json else table(rows))


def on_grey(pictures: UInt8[np.ndarray, "n h w 4"]) -> UInt8[np.ndarray, "n h w 3"]:
    alpha = pictures[..., 3:] / 255.0
    return np.round(pictures[..., :3] * alpha + 127.5 * (1 - alpha)).astype(np.uint8)


if __name__ == "__main__":
    main()
