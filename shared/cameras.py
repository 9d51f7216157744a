"""Pinhole cameras as data: poses, rays and projection.

Conventions, used everywhere in Kinoform (they are OpenGL's, Blender's and nerfstudio's):

world    right-handed, y up; the front of an object faces +z.
camera   x right, y up, looks along its own -z. `camera_to_world` maps homogeneous camera points to the world.
azimuth  degrees around +y; 0 puts the camera on +z (it sees the front), 90 on +x.
elevation  degrees above the horizon; 90 looks straight down.
pixel    (0, 0) is the centre of the top-left pixel; rows go down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shared.errors import InputError

# How an object is looked at: in the pictures of the world, and so by whatever asks a model that has learned from them.
# Angles in degrees, but for FOV_Y, which is in radians.
CAMERA_RADIUS = 4.0
FOV_Y = math.radians(35.0)
ELEVATION = (3.0, 38.0)
OVERHEAD_ELEVATION = (65.0, 88.0)
LIGHT_SPREAD = 60.0  # from the camera's azimuth, to either side
LIGHT_ELEVATION = (25.0, 65.0)


@dataclass(frozen=True)
class Cameras:
    """A batch of `n` pinhole cameras that share one picture size.

    camera_to_world: rigid transforms, "n 4 4".
    fov_y: full vertical field of view in radians, "n".
    height, width: picture size in pixels; pixels are square.
    """

    camera_to_world: Float[Tensor, "n 4 4"]
    fov_y: Float[Tensor, " n"]
    height: int
    width: int

    def __post_init__(self) -> None:
        n = self.camera_to_world.shape[0]
        if self.camera_to_world.shape != (n, 4, 4) or self.fov_y.shape != (n,):
            raise InputError(
                "camera batch",
                expected="camera_to_world n x 4 x 4 and fov_y n",
                got=f"{tuple(self.camera_to_world.shape)} and {tuple(self.fov_y.shape)}",
            )

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Cameras:
        chosen = slice(index, index + 1) if isinstance(index, int) and index >= 0 else index
        if isinstance(chosen, int):
            raise InputError("camera index", expected="0 or more", got=chosen)
        return Cameras(self.camera_to_world[chosen], self.fov_y[chosen], self.height, self.width)

    @property
    def origins(self) -> Float[Tensor, "n 3"]:
        """Camera centres in the world."""
        return self.camera_to_world[:, :3, 3]

    def resized(self, height: int, width: int) -> Cameras:
        """The same views at another picture size."""
        return Cameras(self.camera_to_world, self.fov_y, height, width)

    def rays(self) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w 3"]]:
        """Origins and unit directions, in the world, of the ray through every pixel centre."""
        device, dtype = self.camera_to_world.device, self.camera_to_world.dtype
        rows = (torch.arange(self.height, device=device, dtype=dtype) + 0.5) / self.height
        columns = (torch.arange(self.width, device=device, dtype=dtype) + 0.5) / self.width
        half = torch.tan(self.fov_y / 2)[:, None, None]
        aspect = self.width / self.height
        y = (1 - 2 * rows)[None, :, None] * half
        x = (2 * columns - 1)[None, None, :] * half * aspect
        x, y = torch.broadcast_tensors(x, y)
        local = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
        directions = torch.einsum("nij,nhwj->nhwi", self.camera_to_world[:, :3, :3], local)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        origins = self.origins[:, None, None, :].expand_as(directions)
        return origins, directions

    def project(self, points: Float[Tensor, "p 3"]) -> tuple[Float[Tensor, "n p 2"], Float[Tensor, "n p"]]:
        """Pixel coordinates (x right, y down, 0 at the first pixel's centre) and depth along the view axis."""
        rotation = self.camera_to_world[:, :3, :3]
        local = torch.einsum("nji,npj->npi", rotation, points[None] - self.origins[:, None])
        depth = -local[..., 2]
        half = torch.tan(self.fov_y / 2)[:, None]
        x = local[..., 0] / (depth * half * self.width / self.height)
        y = local[..., 1] / (depth * half)
        pixels = torch.stack([(x + 1) / 2 * self.width - 0.5, (1 - y) / 2 * self.height - 0.5], dim=-1)
        return pixels, depth


def look_at(eye: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4 4"]:
    """`camera_to_world` of cameras at `eye` that look at `target`, upright (y up); straight up or down is allowed."""
    backward = torch.nn.functional.normalize(eye - target, dim=-1)
    up = torch.zeros_like(backward)
    up[:, 1] = 1
    right = torch.linalg.cross(up, backward)
    # Straight up or down the horizon is undefined: keep +x to the right, as azimuth 0 has it.
    degenerate = right.norm(dim=-1, keepdim=True) < 1e-6
    x_axis = torch.zeros_like(backward)
    x_axis[:, 0] = 1
    right = torch.nn.functional.normalize(torch.where(degenerate, x_axis, right), dim=-1)
    true_up = torch.linalg.cross(backward, right)
    pose = torch.eye(4, dtype=eye.dtype, device=eye.device).repeat(len(eye), 1, 1)
    pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2], pose[:, :3, 3] = right, true_up, backward, eye
    return pose


def direction(azimuth: Float[Tensor, " n"], elevation: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Unit vectors from the origin; angles in degrees."""
    a, e = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    return torch.stack([a.sin() * e.cos(), e.sin(), a.cos() * e.cos()], dim=-1)


def orbit(
    azimuth: Sequence[float] | Float[Tensor, " n"],
    elevation: Sequence[float] | Float[Tensor, " n"],
    *,
    radius: float | Float[Tensor, " n"] = CAMERA_RADIUS,
    fov_y: float | Float[Tensor, " n"] = FOV_Y,
    height: int = 64,
    width: int = 64,
) -> Cameras:
    """Cameras on a sphere of `radius` around the origin, looking at it. Angles in degrees, `fov_y` in radians."""
    towards = direction(*(torch.as_tensor(angle, dtype=torch.float32) for angle in (azimuth, elevation)))
    eye = towards * torch.as_tensor(radius, dtype=torch.float32).reshape(-1, 1)
    pose = look_at(eye, torch.zeros_like(eye))
    return Cameras(pose, torch.as_tensor(fov_y, dtype=torch.float32).expand(len(eye)).clone(), height, width)
