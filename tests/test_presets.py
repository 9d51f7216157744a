"""Presets of every kind: what they change, and nothing that is so without them."""

import pytest

from lab.kinds.table import kinds
from shared.recipe import load_preset, preset_names


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in kinds().values() for name in preset_names(kind.name)]
)
def test_a_preset_holds_only_what_differs(kind, name):
    plain = kind.recipe.parse({"prompt": "a red cube"})
    changed = kind.recipe.parse({"prompt": "a red cube", **load_preset(kind.name, name)})
    assert [key for key in load_preset(kind.name, name) if getattr(changed, key) == getattr(plain, key)] == []
