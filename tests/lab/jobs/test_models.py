"""Loaded models are kept, and only the last."""

import gc
import shutil
import weakref

import pytest

from dreamfusion.recipe import AssetRecipe
from lab.jobs.models import Models
from lab.kinds import ASSET, CLIP, IMAGE
from lab.kinds.image import ImageKind
from shared.errors import ModelError
from shared.images.recipe import ImageRecipe
from tests.shared.models.adapters import files
from video.recipe import ClipRecipe


def recipe(model, **changes):
    return ImageRecipe.parse({"prompt": "a red cube", "model": str(model), **changes})


def test_a_model_is_loaded_once(model):
    models = Models()
    first = models.get(IMAGE, recipe(model), "cpu")
    assert models.get(IMAGE, recipe(model, prompt="a duck", seed=3, steps=2, width=32, decode="tiled"), "cpu") is first
    assert models.get(ASSET, AssetRecipe(prompt="a duck", model=str(model)), "cpu") is first  # loaded the same way
    clips = models.get(CLIP, ClipRecipe(prompt="a duck", model=str(model)), "cpu")
    assert models.get(CLIP, ClipRecipe(prompt="a car", model=str(model), frames=3), "cpu") is clips
    assert models.get(IMAGE, recipe(model), "cpu") is not first


@pytest.mark.parametrize("change", [{"channels_last": True}, {"compile": True}, {"precision": "bf16"}], ids=str)
def test_what_changes_a_network_loads_it_anew(model, change):
    models = Models()
    first = models.get(IMAGE, recipe(model), "cpu")
    other = models.get(IMAGE, recipe(model, **change), "cpu")
    assert other is not first
    assert models.get(IMAGE, recipe(model, **change), "cpu") is other


def test_another_folder_is_another_model(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    models = Models()
    first = models.get(IMAGE, recipe(model), "cpu")
    assert models.get(IMAGE, recipe(tmp_path / "copy"), "cpu").name == str(tmp_path / "copy") != first.name


class Probe(ImageKind):
    """Looks, when a model is about to be loaded, whether an earlier one is still there."""

    def __init__(self, earlier):
        self.earlier = earlier
        self.seen = []

    def loader(self):
        return self.load

    def load(self, *arguments, **options):
        gc.collect()
        self.seen.append(self.earlier())
        return super().loader()(*arguments, **options)


def test_the_old_one_goes_before_the_new_one_comes(model):
    models = Models()
    probe = Probe(weakref.ref(models.get(IMAGE, recipe(model), "cpu")))
    models.get(probe, recipe(model), "cpu")
    assert probe.seen == [None]


def test_after_one_that_cannot_be_loaded_the_next_is(model, tmp_path):
    models = Models()
    models.get(IMAGE, recipe(model), "cpu")
    for _ in range(2):
        with pytest.raises(ModelError):
            models.get(IMAGE, recipe(tmp_path / "none"), "cpu")
    assert models.get(IMAGE, recipe(model), "cpu").name == str(model)


def test_previews_are_made_ready_once_for_each_model(model):
    models = Models()
    codec = models.get(IMAGE, recipe(model), "cpu").codec
    preview = models.latent_preview(codec)
    assert preview.codec is codec
    assert models.latent_preview(codec) is preview
    other = Models().get(IMAGE, recipe(model), "cpu").codec
    assert models.latent_preview(other).codec is other
    models.get(IMAGE, recipe(model, precision="bf16"), "cpu")
    assert models._preview is None  # with the model goes what was made ready of it


def test_adapters_are_part_of_what_is_loaded(model, tmp_path):
    one, two = (files.kohya(tmp_path, *files.random_layers(seed, files.ATTENTION), f"{seed}") for seed in (0, 2))
    models = Models()
    plain = models.get(IMAGE, recipe(model), "cpu")
    first = models.get(IMAGE, recipe(model, lora=[one]), "cpu")
    assert models.get(IMAGE, recipe(model, lora=[one], steps=3), "cpu") is first is not plain
    half = models.get(IMAGE, recipe(model, lora=[f"{one}:0.5"]), "cpu")
    assert half is not first
    assert models.get(IMAGE, recipe(model, lora=[f"{one}:0.5"]), "cpu") is half
    shutil.copy(two, one)  # the same name, and something else
    assert models.get(IMAGE, recipe(model, lora=[f"{one}:0.5"]), "cpu") is not half
