import numpy as np
import torch
import trimesh
from torch.testing import assert_close

from dreamfusion.mesh.raster import interpolate, rasterise
from shared.cameras import orbit


def mesh_tensors(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(np.array(mesh.vertices)), torch.tensor(np.array(mesh.faces))


def cast(mesh: trimesh.Trimesh, camera) -> tuple[np.ndarray, np.ndarray]:
    """Nearest face and its barycentric coordinates through each pixel centre, triangle by triangle (Cramer's rule)."""
    o, d = (r[0].reshape(-1, 3).double().numpy() for r in camera.rays())
    best, face, weights = np.full(len(o), np.inf), np.full(len(o), -1), np.zeros((len(o), 3))
    for index, (a, b, c) in enumerate(np.asarray(mesh.triangles)):
        for ray in range(len(o)):
            matrix = np.stack([b - a, c - a, -d[ray]], axis=1)
            if abs(np.linalg.det(matrix)) < 1e-12:
                continue
            u, v, t = np.linalg.solve(matrix, o[ray] - a)
            if u >= 0 and v >= 0 and u + v <= 1 and 0 < t < best[ray] - 1e-9:
                best[ray], face[ray], weights[ray] = t, index, (1 - u - v, u, v)
    shape = (camera.height, camera.width)
    return face.reshape(shape), weights.reshape(*shape, 3)


def test_visible_faces_are_those_that_rays_hit():
    mesh = trimesh.util.concatenate([trimesh.creation.icosphere(1, 0.6), trimesh.creation.box((0.3, 1.8, 0.5))])
    camera = orbit([33.0], [21.0], height=16, width=16)
    camera = type(camera)(camera.camera_to_world.double(), camera.fov_y.double(), 16, 16)
    fragments = rasterise(*mesh_tensors(mesh), camera)
    face, weights = cast(mesh, camera)
    assert (face >= 0).sum() > 50
    agree = fragments.face.numpy() == face
    assert agree.mean() > 0.99  # a centre exactly on an edge may go to either side
    assert_close(fragments.barycentric.numpy()[agree], weights[agree], rtol=1e-5, atol=1e-6)


def test_positions_interpolate_to_the_ray():
    mesh = trimesh.creation.icosphere(2, 0.9)
    camera = orbit([-70.0], [40.0], height=24, width=24)
    vertices, faces = mesh_tensors(mesh)
    vertices = vertices.float()
    fragments = rasterise(vertices, faces, camera)
    places = interpolate(fragments, faces, vertices)
    hit = fragments.face >= 0
    origins, directions = (r[0] for r in camera.rays())
    along = ((places - origins) * directions).sum(dim=-1, keepdim=True)
    assert_close((origins + along * directions)[hit], places[hit], rtol=0, atol=1e-4)
    assert torch.equal(places[~hit], torch.zeros(int((~hit).sum()), 3))


def test_faces_behind_the_camera_are_not_drawn():
    camera = orbit([0.0], [0.0], height=8, width=8)
    behind = torch.tensor([[-9.0, -9.0, 8.0], [9.0, -9.0, 8.0], [0.0, 9.0, 8.0]])
    assert (rasterise(behind, torch.tensor([[0, 1, 2]]), camera).face == -1).all()
    assert (rasterise(behind - torch.tensor([0, 0, 8.0]), torch.tensor([[0, 1, 2]]), camera).face == 0).all()
