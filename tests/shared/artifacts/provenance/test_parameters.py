import re

import numpy as np
from PIL import Image

from lab.results import Clip, Picture
from shared.artifacts.media import read_clip_tags
from shared.artifacts.provenance.parameters import parameters_of
from shared.artifacts.run_record import RunRecord, read_record

# As the web interface's own parser reads it (modules/infotext_utils): names and values of the last line.
VALUE = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def read(text):
    *prompt, last = text.split("\n")
    values = dict(VALUE.findall(last))
    negative = [line.removeprefix("Negative prompt: ") for line in prompt if line.startswith("Negative prompt: ")]
    return [line for line in prompt if not line.startswith("Negative prompt: ")], negative, values


def test_it_reads_as_that_interface_reads_it():
    recipe = {"prompt": "a red cube", "negative": "grey", "model": "my, model", "seed": 7, "steps": 20,
              "guidance_scale": 5.0, "scheduler": "euler-discrete", "strength": None}  # fmt: skip
    hashes = {"text_encoder/model.safetensors": "b" * 64, "unet/weights.safetensors": "a" * 64}
    prompt, negative, values = read(parameters_of(RunRecord.of_run("image", recipe, 7, "my, model", hashes), 64, 48))
    assert (prompt, negative) == (["a red cube"], ["grey"])
    assert values["Steps"] == "20"
    assert values["CFG scale"] == "5"
    assert values["Size"] == "64x48"
    assert values["Model hash"] == "a" * 10
    assert values["Model"] == "my  model"
    assert (values["Seed"], values["Sampler"]) == ("7", "euler-discrete")
    assert "Denoising strength" not in values


def test_a_saved_png_carries_it_beside_the_record(tmp_path):
    record = RunRecord.of_run("image", {"prompt": "a red cube", "model": "m", "seed": 1, "steps": 2}, 1, "m", {})
    file = Picture(np.zeros((8, 16, 3), np.uint8), record).save(tmp_path / "made.png")
    with Image.open(file) as picture:
        prompt, _, values = read(picture.text["parameters"])
    assert prompt == ["a red cube"]
    assert (values["Steps"], values["Size"]) == ("2", "16x8")
    assert read_record(file) == record


def test_a_saved_video_has_its_prompt_as_title(tmp_path):
    record = RunRecord.of_run("clip", {"prompt": "a red cube", "model": "m", "seed": 1}, 1, "m", {})
    for name in ("made.mp4", "made.webm", "made.gif", "made"):
        file = Clip(np.zeros((2, 16, 16, 3), np.uint8), 8.0, record).save(tmp_path / name)
        assert read_record(file) == record
        assert read_clip_tags(file).get("title") == ("a red cube" if name in ("made.mp4", "made.webm") else None)
