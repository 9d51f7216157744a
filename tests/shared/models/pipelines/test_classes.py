"""Who runs a folder, and what is refused by its index alone."""

import inspect
import json
import shutil
import subprocess
import sys

import diffusers
import pytest

from shared.errors import ModelError
from shared.models.pipelines.classes import check_components, components, is_known, makes, pipeline_of
from shared.models.pipelines.keys import FRAMES
from shared.models.source import WORLD, check_model, read_index
from tests.shared.models.pipelines.tiny.table import TINY


@pytest.mark.parametrize(
    ("index", "asked", "runner"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, None, None),
        ({}, None, None),
        ({"_class_name": "FluxPipeline"}, None, "FluxPipeline"),
        ({"_class_name": "FluxPipeline"}, "ChromaPipeline", "ChromaPipeline"),
        ({"_class_name": "StableDiffusionPipeline"}, "StableDiffusionPipeline", "StableDiffusionPipeline"),
        ({"_class_name": "Other", "temporal": ["video.network", "TemporalLayers"]}, None, None),
    ],
)
def test_the_core_runs_what_is_its_own_and_classes_the_rest(index, asked, runner):
    assert pipeline_of(index, asked) == runner


def test_a_class_that_comes_with_the_model_is_refused():
    with pytest.raises(ModelError, match=r"pipeline class mine\.Pipeline: .* code that comes with the model"):
        pipeline_of({"_class_name": ["mine", "Pipeline"]})


def test_parts_are_those_that_are_there():
    index = {"_class_name": "A", "unet": ["diffusers", "B"], "none": [None, None], "flag": True, "temporal": ["v", "T"]}
    assert list(components(index)) == [("unet", "diffusers", "B")]


def test_libraries_are_known_without_importing_them():
    names = ["diffusers", "transformers", "stable_diffusion", "unclip", "video.network", "os", "../x", ""]
    assert [is_known(name) for name in names] == [True] * 4 + [False] * 4
    program = "from shared.models.pipelines.classes import is_known; import sys; is_known('unclip'); "
    program += "sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.fixture
def folder(folder_of, tmp_path):
    """A Flux folder to break."""
    return shutil.copytree(folder_of("FluxPipeline"), tmp_path / "model")


def test_a_whole_folder_passes_where_pipelines_may_run_it(folder):
    check_model(folder, pipelines=None)
    check_model(folder, ("temporal",), pipelines=None)
    with pytest.raises(ModelError, match=r"core runs, got a FluxPipeline. .* gradient cannot be reached"):
        check_model(folder)
    check_model(WORLD, ("temporal",), pipelines=None)


def _pickled(folder):
    shutil.move(folder / "vae/diffusion_pytorch_model.safetensors", folder / "vae/diffusion_pytorch_model.bin")


def _own_code(folder):
    index = read_index(folder)
    index["transformer"] = ["transformer_mine", "Mine"]
    (folder / "model_index.json").write_text(json.dumps(index))


FAULTS = {
    "pickled": (_pickled, "a pickle"),
    "own code": (_own_code, "transformer_mine.Mine, code that comes with the model"),
    "missing": (lambda folder: shutil.rmtree(folder / "text_encoder_2"), "a subfolder text_encoder_2"),
    "short": (lambda folder: (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"12345678{"), "whole"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_refused(folder, fault):
    broken, said = FAULTS[fault]
    broken(folder)
    with pytest.raises(ModelError, match=said):
        check_components(folder, read_index(folder))


def test_what_a_class_makes_is_read_from_its_source_as_its_signature_says():
    for name in {name.partition(" ")[0] for name in TINY}:
        parameters = inspect.signature(getattr(diffusers, name).__call__).parameters
        assert makes(name) == ("clip" if any(word in parameters for word in FRAMES) else "image"), name
    assert makes("NoSuchPipeline") is None
