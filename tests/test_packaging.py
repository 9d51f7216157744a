"""The wheel: everything that runs, presets and weights included, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("shared", "video", "dreamfusion", "world", "lab", "kinoform", "configs")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the build leaves nothing in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    done = subprocess.run([sys.executable, "-c", BUILD, out], cwd=source, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return next(out.glob("kinoform-*-py3-none-any.whl"))


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    files = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert held == files


def test_an_installed_copy_finds_its_presets_and_weights(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from shared import recipe\n"
        f"assert recipe.__file__.startswith({str(tmp_path)!r}), recipe.__file__\n"
        "print({kind: recipe.preset_names(kind) for kind in ('clip', 'asset', 'image', 'train')})"
    )
    arguments = [sys.executable, "-I", "-c", program]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    expected = {
        k: sorted(f.stem for f in (ROOT / "configs" / k).glob("*.yaml")) for k in ("clip", "asset", "image", "train")
    }
    assert done.stdout == f"{expected}\n", done.stderr


def test_the_command_is_kinoform(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        entry = next(name for name in opened.namelist() if name.endswith("entry_points.txt"))
        assert "kinoform = lab.main:main" in opened.read(entry).decode()
        licence = next(name for name in opened.namelist() if name.endswith("LICENSE"))
        assert b"Apache License" in opened.read(licence)
