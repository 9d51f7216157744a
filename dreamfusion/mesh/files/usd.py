"""USDZ, by usd-core (the extra `usd`): y up, front +z, metres, one matte material; what ARKit asks of such files.

The colours lie twice in it: as a picture (`face_texture`), which the material reads, because iOS takes the material's
colours from pictures alone; and as the primvar displayColor, in linear light, for readers without materials. Its index
of refraction is air's, so that it does not shine, as in the GLB: the usual 1.5 lifts darks by 20 levels of 255.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours, to_linear
from dreamfusion.mesh.files.face_texture import face_texture, png_bytes
from dreamfusion.mesh.files.gltf import ROUGHNESS, unit_normals
from dreamfusion.mesh.files.printing import LONG_AGO
from shared.artifacts.formats.image_file import TAG
from shared.artifacts.mesh_record import check_usd

LAYER, PICTURE = "asset.usdc", "textures/colours.png"
ALIGNMENT = 64  # of the data of each file in the package


def usdz_bytes(mesh: trimesh.Trimesh, record_text: str = "") -> bytes:
    """A mesh with vertex colours as USDZ; the same input gives the same bytes. InputError without usd-core."""
    check_usd()
    pixels, uv = face_texture(mesh)
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / LAYER
        stage = _stage(mesh, uv, record_text)  # a name for it: the layer lives no longer than its stage
        stage.GetRootLayer().Export(str(layer))
        return _package({LAYER: layer.read_bytes(), PICTURE: png_bytes(pixels)})


def _stage(mesh: trimesh.Trimesh, uv: np.ndarray, record_text: str) -> Any:
    from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, Vt

    stage = Usd.Stage.CreateInMemory(LAYER)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/asset")
    stage.SetDefaultPrim(root.GetPrim())
    if record_text:
        stage.GetRootLayer().customLayerData = {TAG: record_text}

    surface = UsdGeom.Mesh.Define(stage, "/asset/mesh")
    points = np.asarray(mesh.vertices, dtype=np.float32)
    surface.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    surface.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, dtype=np.int32)))
    surface.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.asarray(mesh.faces, dtype=np.int32).reshape(-1)))
    surface.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(unit_normals(mesh)))
    surface.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    surface.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    surface.CreateDoubleSidedAttr(not mesh.is_watertight)
    surface.CreateExtentAttr([Gf.Vec3f(*row) for row in (points.min(axis=0).tolist(), points.max(axis=0).tolist())])
    primvars = UsdGeom.PrimvarsAPI(surface)
    primvars.CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex).Set(
        Vt.Vec3fArray.FromNumpy(to_linear(mesh_colours(mesh)[:, :3]))
    )
    primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying).Set(
        Vt.Vec2fArray.FromNumpy(uv.reshape(-1, 2).astype(np.float32))
    )

    material = UsdShade.Material.Define(stage, "/asset/matte")
    reader = UsdShade.Shader.Define(stage, "/asset/matte/st")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    picture = UsdShade.Shader.Define(stage, "/asset/matte/colours")
    picture.CreateIdAttr("UsdUVTexture")
    picture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(PICTURE))
    picture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    picture.CreateInput("wrapS", Sdf.ValueTypeNames.Token).Set("clamp")
    picture.CreateInput("wrapT", Sdf.ValueTypeNames.Token).Set("clamp")
    picture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
        reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    )
    shader = UsdShade.Shader.Define(stage, "/asset/matte/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(
        picture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    )
    shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(ROUGHNESS)
    shader.CreateInput("ior", Sdf.ValueTypeNames.Float).Set(1.0)
    material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    UsdShade.MaterialBindingAPI.Apply(surface.GetPrim()).Bind(material)
    return stage


def _package(files: dict[str, bytes]) -> bytes:
    """A ZIP as USDZ wants it: nothing packed, each file's data at a multiple of ALIGNMENT, the layer first."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as package:
        for name, body in files.items():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.external_attr = 0o644 << 16
            start = data.tell() + 30 + len(name) + 4  # local header, name, head of the extra field
            padding = -start % ALIGNMENT
            entry.extra = (0x1986).to_bytes(2, "little") + padding.to_bytes(2, "little") + b"\0" * padding
            package.writestr(entry, body)
    return data.getvalue()
