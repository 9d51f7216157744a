"""Hashes of what twelve recipes make: the same before and after a change that must not change results.

python -m benchmarks.artifact_hashes > before.txt        # then change, and compare with the next run
Bytes depend on the machine's CPU and on torch's build, so both runs are made on one machine.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import kinoform

RECIPES: dict[str, dict[str, object]] = {
    "image.png": {"prompt": "a red cube"},
    "image-guided.png": {"prompt": "a blue duck", "guidance_scale": 9.0, "guidance_rescale": 0.0, "seed": 3},
    "image-plain.png": {"prompt": "a green chair", "guidance_scale": 1.0, "steps": 10},
    "image-negative.png": {"prompt": "a teapot", "negative": "a red thing", "width": 96, "steps": 10},
    "image-half.png": {"prompt": "a yellow house", "precision": "bf16", "steps": 10},
    "clip.mp4": {"prompt": "a red ball bouncing"},
    "clip-window.mp4": {"prompt": "a blue cube moving left", "frames": 24, "window": 16, "steps": 6},
    "clip-plain.webp": {"prompt": "a duck spinning", "guidance_scale": 1.0, "frames": 8, "steps": 6, "seed": 5},
    "clip-negative.gif": {"prompt": "a cube", "negative": "a red cube", "frames": 5, "steps": 6},
    "asset.glb": {"prompt": "a blue chair", "steps": 30, "mesh_resolution": 48},
    "asset-grid.ply": {"prompt": "a red cube", "steps": 20, "field": "grid", "mesh_resolution": 48, "views": 1},
    "asset-paper.obj": {
        "prompt": "a duck", "steps": 20, "cfg_convention": "dreamfusion", "guidance_rescale": 0.5,
        "mesh_resolution": 48, "background": "network",
    },
}  # fmt: skip
MAKERS = {"image": kinoform.image, "clip": kinoform.clip, "asset": kinoform.asset}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe in RECIPES.items():
            make = MAKERS[name.partition(".")[0].partition("-")[0]]
            path = make(**recipe).save(Path(folder) / name)
            print(hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16], name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
