"""`kinoform train all` with presets that go on from a tiny model: as a program of its own, or within a test.

python -m tests.lab.tiny_stages MODEL train all --data DIR --out DIR
"""

import sys

from lab.main import main
from lab.training import stages
from shared.recipe import load_preset


def tiny_presets(model):
    """To stand in the place of `load_preset`: the stages' own, smaller."""
    changes = {"model": str(model), "batch_size": 2}
    scorer = {"batch_size": 4, "image_width": 32, "image_layers": 1}
    return lambda kind, name: {**load_preset(kind, name), **(scorer if name == "scorer-own" else changes)}


if __name__ == "__main__":
    stages.load_preset = tiny_presets(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
