"""Two meshes as one, where the words between them say that they stand."""

from __future__ import annotations

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours, with_colours
from dreamfusion.things import Relation

FILL = 0.8  # of the ball's diameter, taken by both along the line on which they stand
GAP = 0.05  # between two beside each other, as a share of what both take


def arranged(first: trimesh.Trimesh, second: trimesh.Trimesh, relation: Relation, radius: float) -> trimesh.Trimesh:
    """Both in one mesh, each as large beside the other as it was, by their bounding boxes: the first in the middle on
    the second, or on its left in the front view, on the same ground. Centred in a ball of `radius`, which they fill.
    """
    boxes = np.stack([first.bounds, second.bounds])  # thing, lowest or highest, x y z
    middle, size = boxes.mean(axis=1), boxes[:, 1] - boxes[:, 0]
    centres = np.zeros((2, 3))
    if relation == "on top of":
        centres[:, 1] = size[1, 1] / 2, -size[0, 1] / 2
        length = size[:, 1].sum()
    else:
        gap = GAP * size[:, 0].sum()
        centres[:, 0] = -(size[1, 0] + gap) / 2, (size[0, 0] + gap) / 2
        centres[:, 1] = size[:, 1] / 2
        length = size[:, 0].sum() + gap
    lowest, highest = (centres - size / 2).min(axis=0), (centres + size / 2).max(axis=0)
    centres -= (lowest + highest) / 2
    scale = 2 * radius * min(FILL / length, 1 / np.linalg.norm(highest - lowest))
    vertices = [
        scale * (mesh.vertices - was + centre)
        for mesh, was, centre in zip((first, second), middle, centres, strict=True)
    ]
    faces = np.concatenate([first.faces, second.faces + len(first.vertices)])
    both = trimesh.Trimesh(np.concatenate(vertices), faces, process=False)
    return with_colours(both, np.concatenate([mesh_colours(first), mesh_colours(second)]))
