from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from dreamfusion.recipe import AssetRecipe
from shared import recipe as recipe_module
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from shared.recipe import Recipe, did_you_mean, load_preset, load_yaml, preset_names
from video.recipe import ClipRecipe, VideoTrainRecipe

ROOT = Path(__file__).resolve().parents[2]


class Light(Recipe):
    ambient: float = Field(0.4, ge=0, le=1)


class Shot(Recipe):
    prompt: str = Field(min_length=1, max_length=100)
    frames: int = Field(16, ge=1, le=64)
    width: int = Field(64, ge=8, multiple_of=4)
    guidance_scale: float = Field(7.5, ge=0)
    fov: float = Field(35.0, gt=0, lt=180)
    mode: Literal["still", "spin"] = "still"
    image: Path | None = None
    seed: int | None = Field(None, ge=0)
    loop: bool = False
    crop: tuple[int, int] | None = None
    lights: list[Light] = Field(default_factory=list)
    light: Light = Light()


def complaint(**changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        Shot.parse({"prompt": "a cube", **changes})
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"prompt": ""}, "prompt: expected 1 to 100 characters, got an empty text"),
        ({"prompt": "x" * 1_000_000}, "prompt: expected 1 to 100 characters, got 1000000 characters"),
        ({"prompt": 3}, "prompt: expected text, got 3"),
        ({"prompt": "\ud800"}, r"prompt: expected text, got \ud800"),
        ({"frames": 0}, "frames: expected a whole number from 1 to 64, got 0"),
        ({"frames": -3}, "frames: expected a whole number from 1 to 64, got -3"),
        ({"frames": 10**9}, "frames: expected a whole number from 1 to 64, got 1000000000"),
        ({"frames": 1.5}, "frames: expected a whole number from 1 to 64, got 1.5"),
        ({"frames": "many"}, "frames: expected a whole number from 1 to 64, got many"),
        ({"frames": True}, "frames: expected a whole number from 1 to 64, got True"),
        ({"frames": None}, "frames: expected a whole number from 1 to 64, got nothing"),
        ({"width": 65}, "width: expected a whole number of at least 8, a multiple of 4, got 65"),
        ({"guidance_scale": -1}, "guidance_scale: expected a number of at least 0, got -1"),
        ({"guidance_scale": float("nan")}, "guidance_scale: expected a number of at least 0, got nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale: expected a number of at least 0, got inf"),
        ({"fov": True}, "fov: expected a number above 0, below 180, got True"),
        ({"fov": 180}, "fov: expected a number above 0, below 180, got 180"),
        ({"mode": "spn"}, "mode: expected still or spin, got spn"),
        ({"image": 3}, "image: expected a path, got 3"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"seed": False}, "seed: expected a whole number of at least 0, got False"),
        ({"loop": "perhaps"}, "loop: expected true or false, got perhaps"),
        ({"light": {"ambient": 2}}, "light.ambient: expected a number from 0 to 1, got 2"),
        ({"crop": [1, "x"]}, "crop.1: expected a whole number, got x"),
        ({"crop": [1]}, "crop.1: expected a value, got nothing"),
        ({"lights": [{}, {"ambient": -1}]}, "lights.1.ambient: expected a number from 0 to 1, got -1"),
        ({"lights": [{"ambiant": 1}]}, "unknown key lights.0.ambiant: expected ambient. Did you mean ambient?"),
        ({"light": 3}, "light: expected keys with values, got 3"),
        ({"light": {"ambiant": 1}}, "unknown key light.ambiant: expected ambient. Did you mean ambient?"),
    ],
)
def test_a_wrong_value_is_one_line_with_expected_and_got(changes: dict[str, Any], line: str) -> None:
    assert complaint(**changes) == line


def test_an_unknown_key_names_the_nearest_and_all() -> None:
    keys = ", ".join(Shot.model_fields)
    assert complaint(guidence_scale=3) == f"unknown key guidence_scale: expected {keys}. Did you mean guidance_scale?"
    assert complaint(zzz=3) == f"unknown key zzz: expected {keys}"


def test_what_is_no_recipe_at_all() -> None:
    for data in ([1], "x", 3):
        with pytest.raises(InputError, match="recipe: expected keys with values"):
            Shot.parse(data)
    with pytest.raises(InputError, match="prompt: expected a value, got nothing"):
        Shot.parse({})


def test_a_recipe_resolves_to_json_types_and_back() -> None:
    shot = Shot.parse({"prompt": "a cube", "image": "a.png", "light": {"ambient": 0.5}})
    data = shot.resolved()
    assert data["image"] == "a.png"
    assert data["frames"] == 16
    assert data["light"] == {"ambient": 0.5}
    assert set(data) == set(Shot.model_fields)
    assert Shot.parse(data) == shot


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Shot.parse({"prompt": "a cube"}).frames = 3  # type: ignore[misc]


def test_presets_are_found_beside_the_code() -> None:
    found = {kind: preset_names(kind) for kind in ("clip", "asset", "image", "train")}
    files = {kind: sorted(f.stem for f in (ROOT / "configs" / kind).glob("*.yaml")) for kind in found}
    assert found == files
    for kind, names in found.items():
        for name in names:
            assert load_preset(kind, name)


def test_an_unknown_preset_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip").mkdir()
    for name in ("quick", "fine"):
        (tmp_path / "clip" / f"{name}.yaml").write_text("steps: 3\n")
    monkeypatch.setattr(recipe_module, "CONFIGS", tmp_path)
    assert load_preset("clip", "quick") == {"steps": 3}
    with pytest.raises(InputError) as caught:
        load_preset("clip", "quik")
    assert str(caught.value) == "clip preset: expected fine or quick, got quik. Did you mean quick?"
    for name in ("../clip/quick", "quick.yaml", "", "/etc/passwd"):
        with pytest.raises(InputError, match="expected fine or quick"):
            load_preset("clip", name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: [1", "line 1"),
        ("a: 1\nsteps: 3\nsteps: 4\n", "line 3: expected YAML, got key 'steps' twice"),
        ("- 1\n- 2\n", "keys with values"),
        ("", "keys with values"),
        ("3: 4\n", "keys with values"),
        ("a: !!python/object:os.system x\n", "line 1"),
        ("a: \x07\n", "expected YAML"),
        ("{" * 600, "expected YAML"),
    ],
)
def test_what_is_no_recipe_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load_yaml(tmp_path / "a.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_recipe_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    for path, words in [("none.yaml", "No such file"), (".", "Is a directory"), ("a.yaml", "not UTF-8")]:
        with pytest.raises(InputError, match=words):
            load_yaml(tmp_path / path)


def test_a_recipe_file_is_read_as_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("prompt: a cube\nguidance_scale: 1e1\nlight: {ambient: 0.5}\n")
    shot = Shot.parse(load_yaml(tmp_path / "a.yaml"))
    assert (shot.guidance_scale, shot.light.ambient) == (10.0, 0.5)


@given(st.text(), st.lists(st.text(max_size=20), max_size=5))
def test_a_hint_names_one_of_the_names(name: str, names: list[str]) -> None:
    hint = did_you_mean(name, names)
    assert hint == "" or hint.removeprefix("Did you mean ").removesuffix("?") in names


@given(
    st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
)
def test_whatever_is_given_the_answer_is_a_recipe_or_one_line(data: dict[str, Any]) -> None:
    try:
        line = str(Shot.parse(data).resolved())
    except InputError as error:
        line = str(error)
    assert len(line.splitlines()) == 1


def test_what_a_pattern_asks_for_is_said_in_words() -> None:
    for recipe in (ImageRecipe, ClipRecipe, AssetRecipe):
        with pytest.raises(InputError) as caught:
            recipe.parse({"prompt": "  "})
        assert str(caught.value) == "prompt: expected some words, got   "
    with pytest.raises(InputError, match=r"^precision: expected auto, bf16 or fp32, got fp8$"):
        VideoTrainRecipe.parse({"precision": "fp8"})
