"""With usd-core: the file as USD reads it. Without: what to install, in one line. Both are tested, each where it is."""

import importlib.util
import io
import zipfile

import numpy as np
import pytest

from dreamfusion.mesh.colour import mesh_colours, to_linear
from dreamfusion.mesh.files.usd import usdz_bytes
from shared.artifacts.mesh_record import mesh_record_text
from shared.errors import InputError
from tests.dreamfusion.mesh.files.meshes import RECORD, coloured_ball

INSTALLED = importlib.util.find_spec("pxr") is not None


def test_usdz_or_what_to_install(tmp_path):
    mesh, place = coloured_ball(), tmp_path / "ball.usdz"
    if not INSTALLED:
        print("usd-core is not installed: the refusal is tested")
        wanted = r"^\.usdz: expected the package usd-core, got none installed\. pip install 'kinoform\[usd\]'\.$"
        with pytest.raises(InputError, match=wanted):
            usdz_bytes(mesh)
        place.write_bytes(b"PK")
        with pytest.raises(InputError, match=wanted):
            mesh_record_text(place)
        return
    from pxr import Usd, UsdGeom, UsdShade

    data = usdz_bytes(mesh, RECORD.to_json())
    assert data == usdz_bytes(mesh.copy(), RECORD.to_json())
    place.write_bytes(data)
    assert mesh_record_text(place) == RECORD.to_json()
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        assert package.namelist() == ["asset.usdc", "textures/colours.png"]
        for entry in package.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            body = package.read(entry)
            assert data.find(body) % 64 == 0
    stage = Usd.Stage.Open(str(place))
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1.0)
    assert stage.GetDefaultPrim().GetPath() == "/asset"
    surface = UsdGeom.Mesh(stage.GetPrimAtPath("/asset/mesh"))
    assert np.allclose(surface.GetPointsAttr().Get(), mesh.vertices, atol=1e-6)
    assert np.array_equal(np.array(surface.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), mesh.faces)
    colours = np.array(UsdGeom.PrimvarsAPI(surface).GetPrimvar("displayColor").Get())
    assert np.array_equal(colours, to_linear(mesh_colours(mesh)[:, :3]))
    material, _ = UsdShade.MaterialBindingAPI(surface).ComputeBoundMaterial()
    shader = UsdShade.Shader(material.ComputeSurfaceSource()[0])
    assert shader.GetIdAttr().Get() == "UsdPreviewSurface"
    assert {name: shader.GetInput(name).Get() for name in ("metallic", "ior")} == {"metallic": 0.0, "ior": 1.0}
    place.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="a whole USDZ file"):
        mesh_record_text(place)
