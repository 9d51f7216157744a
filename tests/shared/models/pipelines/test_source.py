"""What is read from a class's source, against its signature."""

import inspect

import diffusers
import pytest
from diffusers.pipelines.auto_pipeline import (
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    AUTO_INPAINT_PIPELINES_MAPPING,
    AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
)

from shared.models.pipelines.source import call_of, sibling
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


def test_siblings_are_those_of_autopipeline():
    for mask, table in ((False, AUTO_IMAGE2IMAGE_PIPELINES_MAPPING), (True, AUTO_INPAINT_PIPELINES_MAPPING)):
        for model, kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.items():
            expected = table[model].__name__ if model in table else None
            assert sibling(kind.__name__, mask=mask) == expected, (model, mask)
    assert sibling("FluxImg2ImgPipeline", mask=True) == "FluxInpaintPipeline"
    assert sibling("NoSuchPipeline", mask=True) is None
