"""Keys of content: equal for equal work, whatever it is called; different for everything that changes a byte."""

import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from lab.batch.content import entries
from lab.batch.task import Task
from shared.images.recipe import ImageRecipe
from tests.lab.batch.pictures import picture
from tests.tiny import tiny_unet


def image(id="a", output="a.png", **recipe):
    return Task(id, "image", ImageRecipe(prompt="a red cube", **recipe).resolved(), {}, output)


def key(*tasks):
    return [entry.key for entry in entries(tasks)]


def test_names_tags_and_priority_do_not_matter():
    one, two = image(), replace(image("b", "b.png"), tags=("x",), priority=4, template="a {red|red} cube")
    assert len(set(key(one, two))) == 1


@pytest.mark.parametrize("changes", [{"seed": 1}, {"steps": 7}, {"guidance_scale": 2.0}])
def test_every_key_of_the_recipe_does(changes):
    assert len(set(key(image(), image("b", "b.png", **changes)))) == 2


def test_the_format_does():
    assert len(set(key(image(), image("b", "b.webp")))) == 2


def test_what_shards_hold_does(tmp_path):
    tiny_unet().save_pretrained(tmp_path / "unet", max_shard_size="600KB")
    (before,) = key(task := image(unet=str(tmp_path / "unet")))
    shard = max((tmp_path / "unet").glob("*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(shard).items()}, shard)
    assert key(task) != [before]


def test_the_weights_do_and_not_where_they_lie(model, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    same = [image(model=str(model)), image("b", "b.png", model=str(moved))]
    # The record names the model, so a file of a model of another name is another file.
    assert len(set(key(*same))) == 2
    weights = next(moved.glob("unet/*.safetensors"))
    before = key(image(model=str(moved)))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert key(image(model=str(moved))) != before


def test_what_goes_in_does_by_its_bytes_and_by_its_own_key(tmp_path):
    source = picture(tmp_path / "in.png")
    copy = tmp_path / "copy.png"
    copy.write_bytes(source.read_bytes())

    def upscale(id, file=None, **inputs):
        return Task(id, "upscale", {"source": file and str(file), "scale": 2}, inputs, f"{id}.png")

    assert len(set(key(upscale("a", source), upscale("b", copy)))) == 1
    before = key(upscale("a", source))
    picture(source, 1)
    assert key(upscale("a", source)) != before
    first, second, third = image("p"), image("q", "q.png"), image("r", "r.png", seed=1)
    keys = key(first, second, third, *(upscale(f"of-{t.id}", source=t.id) for t in (first, second, third)))
    assert keys[3] == keys[4] != keys[5]


def test_a_chain_given_backwards_is_worked_out():
    tasks = [
        Task(f"t{n}", "upscale", {"source": None, "scale": 2}, {"source": f"t{n + 1}"}, f"t{n}.png")
        for n in range(2000)
    ]
    tasks.append(image("t2000", "t2000.png"))
    assert len(set(key(*tasks))) == 2001


def test_only_what_differs_from_the_defaults_is_kept():
    (entry,) = entries([image(steps=7)])
    assert entry.recipe == {"prompt": "a red cube", "steps": 7}


def test_recipes_that_differ_in_prompt_and_seed_alone_may_be_sampled_together():
    found = entries([image(), image("b", "b.png", seed=3), image("c", "c.png", steps=7)])
    assert found[0].affinity == found[1].affinity != found[2].affinity
    assert {entry.affinity.split("|")[0] for entry in found} == {"world"}


def test_adapters_do_by_what_they_hold_and_by_their_weight(tmp_path):
    for name, text in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(text)

    def with_lora(*texts):
        return key(image(lora=tuple(str(tmp_path / text) for text in texts)))

    assert with_lora("a") == with_lora("b") == with_lora("b:1")
    assert len({*key(image()), *with_lora("a"), *with_lora("c"), *with_lora("a:0.5"), *with_lora("a", "c")}) == 5
    assert with_lora("a", "c") != with_lora("c", "a")
