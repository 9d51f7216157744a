"""A mesh with known colours, and a record, for the writers' tests."""

import numpy as np
import trimesh

from dreamfusion.mesh.colour import with_colours
from shared.artifacts.run_record import RunRecord

RECORD = RunRecord.of_run(
    "asset",
    {"prompt": 'a "réd" <chair> & a --> sofa' + "  x" * 300, "model": "world", "seed": 3},
    3,
    "world",
    {f"f{i}": "ab" * 32 for i in range(12)},
)


def coloured_ball() -> trimesh.Trimesh:
    """A closed ball, taller than wide, off centre: every display value from 0 to 255 in each channel."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    ball.vertices = np.asarray(ball.vertices) * [1.0, 1.5, 0.5] + [0.1, 0.2, 0.3]
    steps = np.arange(len(ball.vertices))
    colours = np.stack([steps % 256, (steps * 7) % 256, (steps * 31) % 256, np.full_like(steps, 255)], axis=1)
    return with_colours(ball, colours.astype(np.uint8))
