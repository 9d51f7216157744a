"""What is read from a class's source, against its signature."""

import inspect

import diffusers
import pytest

from shared.models.pipelines.source import call_of
from tests.shared.models.pipelines.tiny.table import TINY


@pytest.mark.parametrize("name", sorted({name.partition(" ")[0] for name in TINY} | {"LTX2InContextPipeline"}))
def test_parameters_are_those_of_the_signature(name):
    found, wanted = call_of(name), dict(inspect.signature(getattr(diffusers, name).__call__).parameters)
    del wanted["self"]
    assert list(found) == list(wanted)
    for key, parameter in found.items():
        literal = isinstance(wanted[key].default, (int, float, str, list, tuple, type(None), type))
        assert parameter.default == (wanted[key].default if literal else None), key
        assert parameter.kind is wanted[key].kind, key


def test_a_class_that_is_not_there_has_none():
    assert call_of("NoSuchPipeline") is None
