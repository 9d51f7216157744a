"""`kinoform doctor`: what this machine and this installation have, and whether the parts work."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.kinds.table import plugin_kind
from lab.show.console import Console
from shared.errors import KinoformError, one_line
from shared.plugins import GROUPS, installed, load
from shared.version import VERSION

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "av",
    "trimesh",
    "pydantic",
    "numpy",
)
OPTIONAL = ("xformers", "nerfstudio", "usd-core", "ray", "gradio", "c2pa-python")

# Shapes of attention that are common, guidance included: batch, heads, length, channels a head, and the positions that
# attend over frames.
ATTENTION: dict[str, tuple[int, int, int, int, int | None]] = {
    "16 frames of the embedded model": (32, 4, 64, 32, None),
    "16 frames of 512x512": (32, 8, 4096, 40, None),
    "over these 16 frames": (2, 8, 16, 40, 4096),
}


def add_parser(commands: Any, name: str, help: str) -> None:
    add_command(commands, name, run, help)


def run(args: argparse.Namespace) -> None:
    """Print the findings. Raises KinoformError (exit code 1) when a part that every command needs does not work."""
    console = Console(as_json=args.json)
    findings: dict[str, Any] = {"python": f"{platform.python_version()} on {platform.platform()}"}
    broken = []
    checks: dict[str, Callable[[], Any]] = {
        "kinoform": lambda: VERSION,
        "packages": _packages,
        "torch": _torch,
        "cores": lambda: f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "memory": _memory,
        "gpu": _gpu,
        "attention": _attention,
        "codecs": _codecs,
        "embedded model": _embedded_model,
        "plug-ins": _plugins,
    }
    for name, check in checks.items():
        try:
            findings[name] = check()
        except Exception as error:  # a broken part is what a doctor is for: named here, and in the exit code
            findings[name] = f"BROKEN: {type(error).__name__}: {one_line(str(error), limit=400)}"
            broken.append(name)
    console.result(_lines(findings), outputs=[], findings=findings, broken=broken)
    if broken:
        raise KinoformError(f"{', '.join(broken)}: does not work here")


def _lines(findings: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in findings.items():
        parts = [f"{key} {each}" for key, each in value.items()] if isinstance(value, dict) else [value]
        parts = value if isinstance(value, list) else parts
        lines += [f"{name if i == 0 else '':<16}{part}" for i, part in enumerate(parts)]
    return lines


def _packages() -> dict[str, str]:
    found = {name: metadata.version(name) for name in PACKAGES}
    for name in OPTIONAL:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed (optional)"
    return found


def _torch() -> str:
    import torch

    return (
        f"{torch.__version__}, CPU {torch.backends.cpu.get_cpu_capability()}, threads {torch.get_num_threads()}, "
        f"CUDA build {torch.version.cuda or 'none'}"
    )


def _memory() -> str:
    if sys.platform == "win32":
        return "unknown on Windows"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{total / 2**30:.1f} GiB"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none (everything runs on the CPU)"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"


def _codecs() -> list[str]:
    """Write and read a tiny clip in every format."""
    import numpy as np

    from shared.artifacts.media import CLIP_SUFFIXES, read_clip, write_clip

    works = []
    frames = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in CLIP_SUFFIXES:
            path = Path(folder) / f"clip{suffix}"
            write_clip(path, frames, fps=8)
            if read_clip(path).frames.shape != frames.shape:
                raise KinoformError(f"{suffix} round trip", expected=frames.shape, got="another shape")
            works.append(suffix or "folders of PNGs")
    return [f"{' '.join(works)} can be written and read"]


def _attention() -> list[str]:
    """Every backend on the shapes that clips and assets are made of; a star marks what "auto" takes."""
    import torch

    from shared.attention import Request, explain

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    lines = []
    for name, (batch, heads, length, dim, positions) in ATTENTION.items():
        lines.append(f"{name}, {str(dtype).removeprefix('torch.')} on {device}:")
        request = Request(batch, heads, length, length, dim, dim, positions, dtype, device)
        lines += [told.line() for told in explain(request)]
    return lines


def _plugins() -> list[str]:
    """Each plug-in, loaded; one that is broken is told here, and the lab goes on without it."""
    lines = []
    for group in GROUPS:
        for name, point in installed(group).items():
            try:
                plugin_kind(name) if group == "kinds" else load(group, name)
                state = "works"
            except KinoformError as error:
                state = f"BROKEN: {error.got}"
            package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
            lines.append(f"{group} {name}{package}: {state}")
    return lines or ["none"]


def _embedded_model() -> list[str]:
    """The embedded model is whole, temporal layers included: its weights are read and hashed."""
    from video.generate import load_video_model

    hashes = load_video_model("world").image.hashes()
    return [f"{name} {sha[:12]}" for name, sha in sorted(hashes.items())]
