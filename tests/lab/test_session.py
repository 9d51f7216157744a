"""The Python API gives what the command line gives, and keeps its model."""

import numpy as np
import pytest

import kinoform
from kinoform import Done, InputError, ModelError, Stepped, Timed
from lab.main import main
from shared.models import image_model as shared_model

SHORT = {
    "image": {"steps": 1, "guidance_scale": 3.0, "negative": "green", "size": "32x32", "seed": 5},
    "clip": {"steps": 1, "frames": 3, "fps": 9, "size": "32x32", "seed": 5},
    "asset": {
        "preset": "draft", "steps": 2, "samples": 16, "coarse_render_size": 8, "render_size": 16,
        "field_resolution": 12, "mesh_resolution": 24, "turntable_frames": 3, "turntable_size": 32, "seed": 5,
    },
}  # fmt: skip
PROMPT = "a red cube moving left"


@pytest.fixture(scope="module")
def lab(model):
    return kinoform.load(str(model), device="cpu", batch=2)


def flags(recipe):
    return [text for name, value in recipe.items() for text in ("--" + name.replace("_", "-"), str(value))]


@pytest.mark.parametrize(
    ("kind", "name"), [("image", "a.png"), ("image", "a.webp"), ("clip", "a.mp4"), ("asset", "a.glb")]
)
def test_saved_bytes_are_the_command_s(lab, model, tmp_path, kind, name):
    theirs, ours = tmp_path / "command", tmp_path / "python"
    turning = ["--turntable", str(theirs / "turning.gif")] if kind == "asset" else []
    asked = [kind, PROMPT, "--model", str(model), *flags(SHORT[kind]), "-o", str(theirs / name), *turning]
    assert main(asked) == 0
    result = getattr(lab, kind)(PROMPT, **SHORT[kind])
    assert result.save(ours / name) == ours / name
    assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert kinoform.read_record(theirs / name) == result.record
    if turning:
        result.turntable().save(ours / "turning.gif")
        assert (ours / "turning.gif").read_bytes() == (theirs / "turning.gif").read_bytes()


def test_functions_give_what_a_session_gives(lab, model):
    """In a few words, with the model as a path."""
    for kind in ("image", "clip"):
        once = getattr(kinoform, kind)(PROMPT, model=model, device="cpu", **SHORT[kind])
        kept = getattr(lab, kind)(PROMPT, **SHORT[kind])
        assert once.record == kept.record
        for name in ("pixels", "frames"):
            np.testing.assert_array_equal(getattr(once, name, 0), getattr(kept, name, 0))


def test_a_list_gives_a_list_in_its_order_and_the_model_is_loaded_once(model, monkeypatch):
    loaded = []
    load = shared_model.load_image_model

    def counting(*arguments, **options):
        loaded.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(shared_model, "load_image_model", counting)
    lab = kinoform.load(model, device="cpu", batch=2)
    prompts = ["a red cube", "a duck", "a blue car"]
    pictures = lab.image(prompts, **SHORT["image"])
    assert [picture.record.recipe["prompt"] for picture in pictures] == prompts
    for picture, prompt in zip(pictures, prompts, strict=True):
        np.testing.assert_array_equal(picture.pixels, lab.image(prompt, **SHORT["image"]).pixels)
    (again,) = lab.image(np.array(["a duck"]), **SHORT["image"])
    np.testing.assert_array_equal(again.pixels, pictures[1].pixels)
    assert not np.array_equal(pictures[0].pixels, pictures[1].pixels)
    assert len(loaded) == 1


def test_progress_is_told_in_events(lab):
    events = []
    pictures = lab.image(["a red cube", "a duck"], on_progress=events.append, **{**SHORT["image"], "steps": 4})
    steps = [(event.stage, event.step, event.total, event.jobs) for event in events if isinstance(event, Stepped)]
    assert steps == [("sample", step, 4, (0, 1)) for step in range(1, 5)]
    assert [event.result for event in events if isinstance(event, Done)] == pictures
    assert [event.stage for event in events if isinstance(event, Timed)] == ["load", "sample", "decode", "decode"]
    assert len(events) == 4 + 2 + 4


def test_an_error_while_progress_is_told_is_the_caller_s_own(lab):
    class Mine(Exception):
        pass

    def stop(event):
        if isinstance(event, Stepped):
            raise Mine

    with pytest.raises(Mine):
        lab.image("a red cube", on_progress=stop, **SHORT["image"])
    assert lab.image("a red cube", **SHORT["image"]).pixels.std() > 0  # and the session goes on


REFUSED = [
    ("image", {"stesp": 3}, ("unknown key stesp", "Did you mean steps?")),
    ("image", {"sise": "64x64"}, ("unknown key sise", "Did you mean size?")),
    ("image", {"frames": 3}, ("unknown key frames",)),
    ("clip", {"presets": "draft"}, ("unknown key presets", "Did you mean preset?")),
    ("asset", {"guidance_scal": 3}, ("unknown key guidance_scal", "Did you mean guidance_scale?")),
    ("image", {"model": "world"}, ("unknown key model", "kinoform.load(model)")),
    ("image", {"steps": 0}, ("steps", "got 0")),
    ("clip", {"preset": "drfat"}, ("clip preset", "Did you mean draft?")),
    ("image", {"size": "64"}, ("WIDTHxHEIGHT",)),
    ("image", {"width": 30}, ("width", "a multiple of 4", "got 30")),
    ("image", {"offload": "model"}, ("offload", "none without a GPU")),
]


@pytest.mark.parametrize(("kind", "recipe", "parts"), REFUSED, ids=[str(case[1]) for case in REFUSED])
def test_a_wrong_key_or_value_is_one_line(lab, kind, recipe, parts):
    with pytest.raises(InputError) as caught:
        getattr(lab, kind)("a red cube", **recipe)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ([], "a text, or texts"), (None, "a text, or texts"), (3, "a text, or texts"), (["a cube", 3], "a text"),
        (b"a cube", "a text, or texts"), ("", "1 to 2000 characters"), (" \n", "some words"), (["a", ""], "1 to 2000"),
    ],
)  # fmt: skip
def test_a_prompt_that_is_none_is_refused(lab, prompt, part):
    with pytest.raises(InputError, match=f"prompt: expected {part}"):
        lab.image(prompt, **SHORT["image"])


@pytest.mark.parametrize("batch", [0, -1, 5000])
def test_a_batch_that_cannot_be_is_refused_at_once(batch):
    with pytest.raises(InputError, match="batch: expected a whole number from 1 to 4096"):
        kinoform.load(batch=batch)


def test_a_model_that_is_not_there_and_a_device_that_is_none(tmp_path):
    with pytest.raises(ModelError, match="no such folder or file"):
        kinoform.image("a red cube", model=tmp_path / "none")
    with pytest.raises(InputError, match="auto, cpu or cuda, got tpu"):
        kinoform.image("a red cube", device="tpu")


def test_what_fails_is_raised(lab, monkeypatch):
    def fail(*_):
        raise RuntimeError("the device is gone")

    with monkeypatch.context() as broken:
        broken.setattr("shared.latents.codec.Codec.decode", fail)
        with pytest.raises(RuntimeError, match="the device is gone"):
            lab.image(["a red cube", "a duck"], **SHORT["image"])
    assert len(lab.image(["a red cube", "a duck"], **SHORT["image"])) == 2


def test_numbers_of_numpy_are_numbers(lab):
    recipe = {**SHORT["image"], "seed": np.int64(5), "steps": np.int32(1), "guidance_scale": np.float32(3)}
    assert lab.image("a duck", **recipe).record == lab.image("a duck", **SHORT["image"]).record
