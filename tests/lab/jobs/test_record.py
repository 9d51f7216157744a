"""Records of jobs: what they hold, and when one from before may be made again."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from lab.jobs.record import differences, record_of
from lab.kinds import CLIP, IMAGE
from lab.main import main
from shared.artifacts.files import sha256
from shared.artifacts.run_record import RunRecord, read_record
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from tests.lab.command import is_refusal
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.pipelines.test_replaced import other, written
from tests.shared.models.pipelines.tiny.clips import wan_2_2
from tests.video.tiny import build_video_folder
from video.generate import load_video_model
from video.recipe import ClipRecipe

FLAGS = ["--steps", "2", "--size", "32x32", "--frames", "5", "--device", "cpu"]
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture(scope="module")
def copy(model, tmp_path_factory):
    """The same model somewhere else."""
    place = tmp_path_factory.mktemp("moved") / "copy"
    shutil.copytree(model, place)
    return place


def picture_of(folder, earlier=None):
    recipe = ImageRecipe(prompt="a red cube", model=str(folder), seed=5)
    return record_of(IMAGE, recipe, load_image_model(folder), earlier, {})


def clip_of(folder, earlier=None):
    recipe = ClipRecipe(prompt="a red cube", model=str(folder), seed=5)
    return record_of(CLIP, recipe, load_video_model(folder).image, earlier, {})


def change(folder, part):
    weights = next((folder / part).glob("*.safetensors"))
    save_file({name: tensor * 0.5 for name, tensor in load_file(weights).items()}, weights)
    return weights


def test_it_holds_the_whole_recipe_and_the_hashes_of_what_took_part(model):
    picture, clip = picture_of(model), clip_of(model)
    assert (picture.command, clip.command) == ("image", "clip")
    assert (picture.seed, picture.model.name) == (5, str(model))
    assert picture.recipe == ImageRecipe(prompt="a red cube", model=str(model), seed=5).resolved()
    hashes = {
        str(file.relative_to(model)): sha256(file)
        for part in ("unet", "vae", "text_encoder", "temporal")
        for file in (model / part).glob("*.safetensors")
    }
    assert len(hashes) == 4
    assert clip.model.hashes == hashes
    assert picture.model.hashes == {name: value for name, value in hashes.items() if not name.startswith("temporal")}


def test_a_model_that_has_moved_keeps_the_name_and_so_the_bytes(model, copy):
    assert picture_of(copy, picture_of(model)) == picture_of(model)
    assert picture_of(copy) != picture_of(model)


def test_other_weights_are_refused_and_named(model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    before = clip_of(model)
    change(other, "temporal")
    with pytest.raises(InputError) as caught:
        clip_of(other, before)
    name = "temporal/diffusion_pytorch_model.safetensors"
    was, now = sha256(model / name)[:12], sha256(other / name)[:12]
    assert str(caught.value) == (
        f"model {other}: expected the weights the file was made with ({name} {was}), got {now}. "
        "Give the folder that holds those: --model FOLDER"
    )
    assert picture_of(other, picture_of(model)) == picture_of(model)  # which temporal layers have no part in


def test_files_that_a_recipe_names_are_kept_by_what_they_hold(tmp_path):
    folder = build_video_folder(tmp_path / "model", known=0.3)
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"one")
    (tmp_path / "c.png").write_bytes(b"two")

    def made(name, earlier=None):
        recipe = ClipRecipe(prompt="a cube", model=str(folder), image=str(tmp_path / name))
        return record_of(CLIP, recipe, load_video_model(folder).image, earlier, recipe.files())

    first = made("a.png")
    assert first.inputs == {"image": sha256(tmp_path / "a.png")}
    assert RunRecord.from_json(first.to_json()) == first
    assert made("b.png", first) == first
    with pytest.raises(InputError, match=r"c\.png: expected the file it was made with .*Say where that is: --image"):
        made("c.png", first)
    recipe = ClipRecipe(prompt="a cube", model=str(folder), image=str(tmp_path / "gone.png"))
    assert record_of(CLIP, recipe, load_video_model(folder).image, first, {}) == first  # nothing is read again
    assert '"inputs"' not in clip_of(folder).to_json()


def test_a_file_more_or_less_is_another_model(model):
    record = picture_of(model)
    hashes = record.model.hashes
    more = {**hashes, "unet/more.safetensors": "ab" * 32}
    for known, expected, got in ((more, "ab" * 6, "none"), ({}, "absent", hashes[min(hashes)][:12])):
        earlier = record.model_copy(update={"model": record.model.model_copy(update={"hashes": known})})
        with pytest.raises(InputError, match=rf"{expected}\), got {got}"):
            picture_of(model, earlier)


def test_what_may_change_the_last_bits_is_said(model):
    now = picture_of(model)
    assert differences(now, now) == []
    versions = {**now.versions, "torch": "1.0", "gone": "2"}
    earlier = now.model_copy(update={"versions": versions, "platform": "Plan 9", "kinoform_version": "0"})
    end = ": the result may differ in rounding"
    assert differences(earlier, now) == [
        f"made with kinoform 0, this is {now.kinoform_version}{end}",
        f"made with platform Plan 9, this is {now.platform}{end}",
        f"made with torch 1.0, this is {now.versions['torch']}{end}",
    ]


def test_of_a_version_that_was_not_recorded_nothing_is_said(model):
    now = picture_of(model)
    versions = {name: version for name, version in now.versions.items() if name != "pillow"}
    assert differences(now.model_copy(update={"versions": versions}), now) == []


def test_of_several_files_each_is_kept_by_what_it_holds(model, tmp_path):
    for name, text in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / f"{name}.safetensors").write_bytes(text)
    image = load_image_model(model)

    def made(names, earlier=None):
        recipe = ImageRecipe(
            prompt="a cube", model=str(model), lora=tuple(f"{tmp_path / name}.safetensors:0.5" for name in names)
        )
        return record_of(IMAGE, recipe, image, earlier, recipe.files())

    first = made("ab")
    assert first.inputs == {f"lora.{i}": sha256(tmp_path / f"{name}.safetensors") for i, name in enumerate("ab")}
    assert RunRecord.from_json(first.to_json()) == first
    assert made("cb", first) == first
    with pytest.raises(InputError, match=r"lora\.1 .*a\.safetensors: expected the file .*Say where that is: --lora"):
        made("ca", first)


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    wan_2_2().save_pretrained(folder := tmp_path_factory.mktemp("wan") / "model")
    return folder


def asked(wan, *flags):
    return ["clip", "a red cube", "--model", str(wan), *FLAGS, *map(str, flags)]


def test_two_transformers_are_made_again(wan, tmp_path, capsys):
    flags = []
    for seed, name in enumerate(("transformer", "transformer_2")):
        file = tmp_path / f"{name}.safetensors"
        written(original.wan(other(getattr(wan_2_2(), name), seed).state_dict()), file)
        flags += [f"--{name.replace('_', '-')}", file]
    clip = tmp_path / "a.mp4"
    assert main(asked(wan, *flags, "-o", clip)) == 0
    record = read_record(clip)
    assert record.inputs == {"transformer": sha256(flags[1]), "transformer_2": sha256(flags[3])}
    assert not [name for name in record.model.hashes if name.startswith("transformer")]
    moved = flags[3].rename(tmp_path / "low.safetensors")
    capsys.readouterr()
    assert is_refusal(main(["rerun", str(clip)]), capsys.readouterr().err, "transformer_2", "a file that exists")
    code = main(["rerun", str(clip), "--transformer-2", str(flags[1])])
    assert is_refusal(code, capsys.readouterr().err, "the file it was made with", "--transformer-2 FILE")
    assert main(["rerun", str(clip), "--transformer-2", str(moved), "-o", str(tmp_path / "b.mp4")]) == 0
    assert (tmp_path / "b.mp4").read_bytes() == clip.read_bytes()


def test_a_part_in_shards_is_made_again_from_the_same_ones(wan, tmp_path, capsys):
    here = tmp_path / "here"
    other(wan_2_2().transformer_2).save_pretrained(here, max_shard_size="40KB")
    shards = sorted(here.glob("*.safetensors"))
    assert len(shards) == 2
    clip = tmp_path / "a.mp4"
    assert main(asked(wan, "--transformer-2", here, "-o", clip)) == 0
    record = read_record(clip)
    files = {f"transformer_2.{i}": shard for i, shard in enumerate(shards)} | {"transformer_2": here / INDEX}
    assert record.inputs == {key: sha256(file) for key, file in files.items()}

    there = shutil.copytree(here, tmp_path / "there")
    shutil.rmtree(here)
    assert main(["rerun", str(clip), "--transformer-2", str(there), "-o", str(tmp_path / "b.mp4")]) == 0
    assert (tmp_path / "b.mp4").read_bytes() == clip.read_bytes()

    last = there / shards[1].name
    save_file({name: tensor + 1 for name, tensor in load_file(last).items()}, last)
    capsys.readouterr()
    code = main(["rerun", str(clip), "--transformer-2", str(there)])
    parts = (f"transformer_2.1 {last}", "the file it was made with", "--transformer-2 FILE")
    assert is_refusal(code, capsys.readouterr().err, *parts)
    last.unlink()
    code = main(["rerun", str(clip), "--transformer-2", str(there)])
    assert is_refusal(code, capsys.readouterr().err, "every shard of its index", last.name)
