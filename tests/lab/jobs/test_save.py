"""What a signature says a result comes of."""

import pytest

from lab.jobs.save import origin
from lab.kinds import kinds
from shared.artifacts.provenance.signature import COMPOSITE, GENERATED
from shared.artifacts.run_record import RunRecord


@pytest.mark.parametrize(("name", "inputs", "expected"), [
    ("image", (), GENERATED),
    ("image", ("lora.0", "embeddings.0", "vae", "unet", "transformer"), GENERATED),  # weights are no picture
    ("clip", ("motion_adapter", "transformer.0", "transformer_2"), GENERATED),
    ("image", ("image", "vae"), COMPOSITE),
    ("clip", ("last",), COMPOSITE),
])  # fmt: skip
def test_only_pictures_that_were_given_make_it_a_composite(name, inputs, expected):
    kind = kinds()[name]
    recipe = kind.recipe.parse({"prompt": "a red cube"})
    record = RunRecord.of_run(name, recipe.resolved(), 0, "world", {}, dict.fromkeys(inputs, "0" * 64), [])
    assert origin(kind, record) == expected
