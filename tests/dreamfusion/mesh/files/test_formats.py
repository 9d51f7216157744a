import importlib.util
import subprocess
import sys

import pytest

from dreamfusion.mesh.files.formats import ASSET_SUFFIXES, check_mesh_file
from shared.errors import InputError


def test_asking_imports_nothing_heavy():
    heavy = "('torch', 'trimesh', 'pxr')"
    code = f"import sys, dreamfusion.mesh.files.formats; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("suffix", ASSET_SUFFIXES)
def test_known_endings(suffix):
    if suffix == ".usdz" and importlib.util.find_spec("pxr") is None:
        with pytest.raises(InputError, match=r"pip install 'kinoform\[usd\]'"):
            check_mesh_file("A.USDZ")
    else:
        assert check_mesh_file(f"x/A{suffix.upper()}") == suffix


def test_only_printers_formats_have_a_size():
    assert check_mesh_file("a.stl", 80.0) == ".stl"
    assert check_mesh_file("a.3mf", 80.0) == ".3mf"
    for name in ("a.glb", "a.obj", "a.ply", "a.usdz"):
        with pytest.raises(InputError, match=r"print size: expected \.stl or \.3mf.*, got " + name):
            check_mesh_file(name, 80.0)
    for size in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="millimetres above 0"):
            check_mesh_file("a.stl", size)
    with pytest.raises(InputError, match=r"\.glb, \.obj, \.ply, \.stl, \.3mf, \.usdz, got a\.fbx"):
        check_mesh_file("a.fbx")
