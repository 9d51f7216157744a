"""A mesh turning once around, as frames."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from einops import reduce
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from dreamfusion.mesh.colour import mesh_colours
from dreamfusion.mesh.raster import interpolate, rasterise
from dreamfusion.render.shading import Shading, shade
from dreamfusion.views import Views, around


def turntable(
    mesh: trimesh.Trimesh, *, frames: int = 24, size: int = 192, elevation: float = 20.0, background: float = 0.5
) -> UInt8[np.ndarray, "t h w 3"]:
    """`frames` views of one full turn, beginning at the front; the light stays with the camera.

    size: pixels of a frame's edge. elevation: of the camera, degrees. background: grey in [0, 1].
    """
    return render_mesh(mesh, around(frames, size, elevation=elevation), background=background)


def render_mesh(
    mesh: trimesh.Trimesh,
    views: Views,
    *,
    background: float = 0.5,
    shading: Shading = "lambertian",
    oversampling: int = 2,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures of a mesh with vertex colours, lit as the pictures of the world are.

    oversampling: rays per pixel along each axis. Colours are display-referred throughout.
    """
    vertices = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    faces = torch.tensor(np.asarray(mesh.faces), dtype=torch.int64)
    normals = torch.tensor(np.array(mesh.vertex_normals), dtype=torch.float32)
    colours = torch.tensor(mesh_colours(mesh)[:, :3], dtype=torch.float32) / 255
    attributes = torch.cat([normals, colours], dim=-1)
    size = views.cameras.height * oversampling
    pictures = []
    for index in range(len(views)):
        camera = views.cameras[index].resized(size, size)
        fragments = rasterise(vertices, faces, camera)
        pixels = _shaded(interpolate(fragments, faces, attributes), shading, views.light[index])
        pixels = torch.where((fragments.face >= 0)[..., None], pixels, torch.full_like(pixels, background))
        pixels = reduce(pixels, "(h a) (w b) c -> h w c", "mean", a=oversampling, b=oversampling)
        pictures.append((pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    return np.stack(pictures)


def _shaded(attributes: Float[Tensor, "h w 6"], shading: Shading, light: Float[Tensor, " 3"]) -> Float[Tensor, "h w 3"]:
    flat = attributes.reshape(-1, 6)
    normal = functional.normalize(flat[:, :3], dim=-1)
    colour = shade(shading, flat[:, 3:], normal, light.expand_as(normal))
    return colour.view(*attributes.shape[:2], 3)
