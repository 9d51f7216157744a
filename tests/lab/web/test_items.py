"""Items of finished files, by the records that they carry."""

import numpy as np
import pytest

from dreamfusion.mesh.files.write import write_mesh
from lab.web.items import Item, item_of_file, items_below
from shared.artifacts.media import TAG, write_clip, write_image
from shared.artifacts.run_record import RunRecord, write_sidecar
from tests.dreamfusion.mesh.files.meshes import coloured_ball


def record(kind, prompt="a red cube", seed=3):
    return RunRecord.of_run(kind, {"prompt": prompt, "model": "world", "seed": seed, "steps": 4}, seed, "world", {})


PIXELS = np.full((8, 8, 3), 100, np.uint8)
FRAMES = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)


@pytest.mark.parametrize("name", ["a.png", "below/a.jpg", "below/further/a.webp"])
def test_a_picture(tmp_path, name):
    write_image(tmp_path / name, PIXELS, {TAG: record("image").to_json()})
    assert item_of_file(tmp_path, tmp_path / name) == Item(
        id=name,
        state="done",
        step="image",
        prompt="a red cube",
        model="world",
        seed=3,
        output=name,
        recipe={"prompt": "a red cube", "model": "world", "seed": 3, "steps": 4},
        command=f"kinoform rerun {name}",
    )


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mov", "a.gif", "a.webp", "a.apng", "frames"])
def test_a_clip(tmp_path, name):
    write_clip(tmp_path / name, FRAMES, 8, {TAG: record("clip").to_json()})
    item = item_of_file(tmp_path, tmp_path / name)
    assert (item.step, item.output, item.command) == ("clip", name, f"kinoform rerun {name}")


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a.ply", "a.stl", "a.3mf"])
def test_an_asset(tmp_path, name):
    write_mesh(tmp_path / name, coloured_ball(), record("asset"))
    assert item_of_file(tmp_path, tmp_path / name).step == "asset"


def test_a_clip_of_an_asset_is_a_turntable(tmp_path):
    write_clip(tmp_path / "a.mp4", FRAMES, 8, {TAG: record("asset").to_json()})
    assert item_of_file(tmp_path, tmp_path / "a.mp4").step == "turntable"


def test_any_file_with_its_record_beside_it(tmp_path):
    (tmp_path / "a.vox").write_bytes(b"voxels")
    write_sidecar(tmp_path / "a.vox", record("sculpture"))
    assert item_of_file(tmp_path, tmp_path / "a.vox").step == "sculpture"


def test_names_that_a_shell_would_take_for_something_else(tmp_path):
    for name, word in (("-a.png", "./-a.png"), ("it's $1.png", "'it'\"'\"'s $1.png'")):
        write_image(tmp_path / name, PIXELS, {TAG: record("image").to_json()})
        assert item_of_file(tmp_path, tmp_path / name).command == f"kinoform rerun {word}"


def test_what_is_no_result(tmp_path):
    write_image(tmp_path / "sheet.png", PIXELS)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "cut.mp4").write_bytes(b"no clip")
    (tmp_path / "record.json").write_text(record("image").to_json())
    (tmp_path / "a.latents.safetensors").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / "gone.png"]:
        assert item_of_file(tmp_path, path) is None, path


def test_what_a_record_of_others_may_say_for_a_prompt(tmp_path):
    for number, prompt in enumerate((None, 3, ["a"])):
        path = tmp_path / f"{number}.png"
        write_image(path, PIXELS, {TAG: record("image", prompt).to_json()})
        assert item_of_file(tmp_path, path).prompt == ("" if prompt is None else str(prompt))


def test_all_below_a_folder_by_name(tmp_path):
    text = {TAG: record("image").to_json()}
    for name in ("b/2.png", "a.png", "b/1.png", ".page/thumbnails/x.png", ".hidden.png"):
        write_image(tmp_path / name, PIXELS, text)
    write_clip(tmp_path / "frames", FRAMES, 8, {TAG: record("clip").to_json()})
    (tmp_path / "index.html").write_text("a page")
    assert [item.id for item in items_below(tmp_path)] == ["a.png", "frames", "b/1.png", "b/2.png"]
