"""The folder of a page: what is written, when, and what is left alone."""

import base64
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lab.web.thumbnails
from dreamfusion.mesh.files.write import write_mesh
from lab.web.items import Item
from lab.web.page import CHUNK, Page, key_of
from lab.web.scripts import called_with
from shared.artifacts.media import write_clip, write_image
from shared.errors import InputError
from tests.dreamfusion.mesh.files.meshes import coloured_ball

PIXELS = np.full((8, 8, 3), 100, np.uint8)
RECIPE = {"prompt": "a cube", "steps": 4}


def queued(count):
    return [
        Item(f"job/{number}", "queued", "image", f"cube {number}", recipe=RECIPE, seed=number)
        for number in range(count)
    ]


def written(folder):
    """Every file with its inode, which a new version of it changes."""
    return {str(file.relative_to(folder)): file.stat().st_ino for file in folder.rglob("*") if file.is_file()}


def changed(before, after):
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def items(folder):
    state = called_with((folder / ".page/state.js").read_bytes())
    found = []
    for number, revision in enumerate(state["chunks"]):
        chunk = called_with((folder / f".page/items-{number:03d}.js").read_bytes())
        assert (chunk["chunk"], chunk["revision"]) == (number, revision)
        found += chunk["items"]
    return found


def test_only_what_has_changed_is_written_again(tmp_path):
    page, jobs = Page(tmp_path, "Cubes"), queued(2 * CHUNK + 10)
    page.update(jobs)
    first = written(tmp_path)
    assert set(first) == {
        "index.html",
        *(f".page/{name}" for name in ("state.js", "items-000.js", "items-001.js", "items-002.js")),
    }
    page.update([replace(job) for job in jobs])
    assert written(tmp_path) == first
    jobs[CHUNK + 5] = replace(jobs[CHUNK + 5], state="running", done_share=0.25)
    page.update(jobs)
    second = written(tmp_path)
    assert changed(first, second) == {".page/state.js", ".page/items-001.js"}
    jobs[CHUNK + 5] = replace(jobs[CHUNK + 5], done_share=0.5)
    page.update(jobs)
    third = written(tmp_path)
    assert changed(second, third) == {".page/state.js"}
    assert called_with((tmp_path / ".page/state.js").read_bytes())["running"] == {key_of(f"job/{CHUNK + 5}"): 0.5}
    assert [item["id"] for item in items(tmp_path)] == [job.id for job in jobs]
    Page(tmp_path, "Cubes").update(jobs)
    assert written(tmp_path) == third
    Page(tmp_path, "Spheres").update(jobs)
    assert changed(third, written(tmp_path)) == {"index.html", ".page/state.js"}


def test_the_state_counts_all(tmp_path):
    jobs = [
        replace(job, state=state) for job, state in zip(queued(4), ("done", "failed", "failed", "running"), strict=True)
    ]
    Page(tmp_path, "Cubes").update(jobs)
    state = called_with((tmp_path / ".page/state.js").read_bytes())
    assert (state["title"], state["total"]) == ("Cubes", 4)
    assert state["counts"] == {"running": 1, "done": 1, "failed": 2}


def test_a_shorter_list_leaves_nothing_behind(tmp_path):
    page = Page(tmp_path, "Cubes")
    page.update(queued(CHUNK + 1))
    page.update(queued(3))
    assert len(items(tmp_path)) == 3
    write_image(tmp_path / "a.png", np.zeros((300, 300, 3), np.uint8))
    Page(tmp_path, "Cubes").update([Item("a", "done", "image", "a", output="a.png")])
    assert len(list((tmp_path / ".page/thumbnails").iterdir())) == 1
    Page(tmp_path, "Cubes").update([])
    assert written(tmp_path).keys() == {"index.html", "a.png", ".page/state.js"}


def test_files_are_looked_at_once_and_again_when_they_change(tmp_path, monkeypatch):
    looked = []
    look = lab.web.thumbnails.look
    monkeypatch.setattr(lab.web.thumbnails, "look", lambda file: (looked.append(file.name), look(file))[1])
    file = tmp_path / "a.mp4"
    write_clip(file, np.zeros((4, 16, 16, 3), np.uint8), 8)
    done = [Item("a", "done", "clip", "a", output="a.mp4"), Item("late", "done", "clip", "b", output="b.mp4")]
    page = Page(tmp_path, "Clips")
    page.update(done)
    page.update(done)
    assert looked == ["a.mp4"]
    (item, late) = items(tmp_path)
    assert item["look"] == {"media": "video", "width": 16, "height": 16, "frames": 4, "fps": 8.0, "thumbnail": True}
    assert (item["href"], item["bytes"]) == ("a.mp4", file.stat().st_size)
    assert late["output"] is None
    Page(tmp_path, "Clips").update(done)
    assert looked == ["a.mp4"]  # known from the page that was there
    write_clip(tmp_path / "b.mp4", np.zeros((4, 16, 16, 3), np.uint8), 8)
    page.update(done)
    assert looked == ["a.mp4", "b.mp4"]
    write_clip(file, np.zeros((6, 16, 16, 3), np.uint8), 8)
    page = Page(tmp_path, "Clips")
    page.update(done)
    assert looked == ["a.mp4", "b.mp4", "a.mp4"]
    (tmp_path / f".page/thumbnails/{key_of('a')}.webp").write_bytes(b"")
    Page(tmp_path, "Clips").update(done)
    assert looked[3:] == ["a.mp4"]


def test_a_mesh_comes_as_a_script(tmp_path):
    write_mesh(tmp_path / "ball.glb", coloured_ball())
    Page(tmp_path, "Balls").update([Item("ball", "done", "asset", "a ball", output="ball.glb")])
    script = called_with((tmp_path / f".page/assets/{key_of('ball')}.js").read_bytes())
    assert script["key"] == key_of("ball")
    assert base64.b64decode(script["glb"]) == (tmp_path / "ball.glb").read_bytes()
    assert items(tmp_path)[0]["look"]["viewer"] is True


def test_a_broken_file_is_an_item_with_a_note(tmp_path):
    names = ["a.png", "a.webp", "a.mp4", "a.gif", "a.glb", "a.ply", "frames"]
    for name in names[:-1]:
        (tmp_path / name).write_bytes(b"nothing that can be read")
    (tmp_path / "frames").mkdir()
    Page(tmp_path, "Broken").update([Item(name, "done", "clip", "x", output=name) for name in names])
    notes = [item["look"]["note"] for item in items(tmp_path)]
    assert all(note.startswith("This file cannot be shown. ") for note in notes), notes


@pytest.mark.parametrize("output", ["../secret.png", "/etc/passwd", "a/../../b.png"])
def test_files_elsewhere_are_not_shown(tmp_path, output):
    folder = tmp_path / "page"
    write_image(tmp_path / "secret.png", PIXELS)
    Page(folder, "x").update([Item("a", "done", "image", "a", output=output)])
    (item,) = items(folder)
    assert "href" not in item
    assert item["output"] is None
    assert "outside" in item["note"]


@pytest.mark.parametrize("name", ["javascript:alert(1).png", "a b#c?d%e.png", "ü 🦆 \udcff.png", "'\"<&>.png"])
def test_addresses_of_odd_names(tmp_path, name):
    write_image(tmp_path / name, PIXELS)
    Page(tmp_path, "x").update([Item(name, "done", "image", "a", output=name)])
    (item,) = items(tmp_path)
    assert not set(":#? <>&\"'") & set(item["href"])
    assert item["href"].isascii()


def test_texts_and_numbers_of_any_sort(tmp_path):
    odd = Item(
        "x" * 5000, "odd", "odd", "</script>\u2028" * 20_000, seed=2**63 - 1,
        recipe={"__proto__": {"a": float("nan")}, "path": tmp_path}, scores={"clip": float("nan"), "other": 0.5},
    )  # fmt: skip
    Page(tmp_path, "x").update([odd])
    (item,) = items(tmp_path)
    assert item["prompt"] == odd.prompt
    assert item["seed"] == str(2**63 - 1)
    assert item["recipe"] == {"__proto__": {"a": "nan"}, "path": str(tmp_path)}
    assert item["scores"] == {"clip": "nan", "other": 0.5}


def test_another_s_page_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "index.html").write_text("<title>mine</title>")
    with pytest.raises(InputError, match="another's"):
        Page(tmp_path, "x")
    assert written(tmp_path).keys() == {"index.html"}


def test_damaged_data_of_an_earlier_page_do_no_harm(tmp_path):
    write_image(tmp_path / "a.png", PIXELS)
    done = [Item("a", "done", "image", "a", output="a.png")]
    Page(tmp_path, "x").update(done)
    good = (tmp_path / ".page/items-000.js").read_bytes()
    stamped = json.dumps({"items": [{"stamp": called_with(good)["items"][0]["stamp"], "key": key_of("a"), "look": 3}]})
    for data in (
        b"",
        b"\xff",
        good[:100],
        b'kinoform.items(JSON.parse("[]"))\n',
        f"kinoform.items(JSON.parse({json.dumps(stamped)}))\n".encode(),
    ):
        (tmp_path / ".page/items-000.js").write_bytes(data)
        Page(tmp_path, "x").update(done)
        assert (tmp_path / ".page/items-000.js").read_bytes() == good


def test_neither_page_nor_items_import_torch():
    program = "import sys, lab.web.page, lab.web.items; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
