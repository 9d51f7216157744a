"""Many prompts to many files: names, what is there already, failures, interrupts, the page of them all."""

import json
import signal
import subprocess

import numpy as np
import pytest

from lab.kinds import kinds
from lab.main import main
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.media import read_clip, read_image
from shared.artifacts.run_record import read_record
from tests.lab.command import command, environment, is_refusal
from tests.lab.jobs.test_run import FailsToFinish, files

SHORT = ["--steps", "1", "--size", "32x32"]
PROMPTS = """# what is wanted
a red cube

a duck | green
a car | | 7
"""
NAMES = [
    "001-a-ball-3.png", "002-a-ball-4.png", "003-a-red-cube-3.png", "004-a-red-cube-4.png", "005-a-duck-3.png",
    "006-a-duck-4.png", "007-a-car-7.png", "008-a-car-8.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Eight pictures of four prompts, and what the command said of them."""
    place = tmp_path_factory.mktemp("many")
    (place / "prompts.txt").write_text(PROMPTS)
    code = main(["image", *asked(model, place)])
    assert code == 0
    return place


@pytest.fixture
def copy(folder, tmp_path):
    """The folder for one test alone."""
    for file in (folder / "out").iterdir():
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    return tmp_path


def asked(model, place, *more):
    source = str(place / "prompts.txt")
    return ["a ball", "--prompts", source, "--count", "2", "--seed", "3", *SHORT, "--model", str(model), "-o",
            f"{place}/out/", *more]  # fmt: skip


def image(model, *arguments):
    return main(["image", "--model", str(model), *SHORT, *map(str, arguments)])


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


def test_prompts_seeds_and_negatives_are_those_of_the_line_and_the_file(folder, model, tmp_path):
    assert files(folder / "out") == [*NAMES, "contact-sheet.png"]
    recipes = [read_record(folder / "out" / name).recipe for name in NAMES]
    assert [(recipe["prompt"], recipe["negative"], recipe["seed"]) for recipe in recipes] == [
        ("a ball", "", 3), ("a ball", "", 4), ("a red cube", "", 3), ("a red cube", "", 4),
        ("a duck", "green", 3), ("a duck", "green", 4), ("a car", "", 7), ("a car", "", 8),
    ]  # fmt: skip
    assert image(model, "a duck", "--negative", "green", "--seed", "4", "-o", tmp_path / "alone.png") == 0
    assert (tmp_path / "alone.png").read_bytes() == (folder / "out" / NAMES[5]).read_bytes()


def test_the_sheet_shows_them_all_a_row_for_each_prompt(folder):
    pictures = [read_image(folder / "out" / name) for name in NAMES]
    rows = [pictures[start : start + 2] for start in range(0, 8, 2)]
    expected = contact_sheet(rows, ["a ball", "a red cube", "a duck", "a car"], scale=4)
    np.testing.assert_array_equal(read_image(folder / "out" / "contact-sheet.png"), expected)


def test_what_is_said_of_many(model, tmp_path, capsys):
    place = f"{tmp_path}/new/deeper/"
    assert image(model, "a red cube", "a red dragon", "-o", place) == 0
    out, err = capsys.readouterr()
    names = [f"{place}001-a-red-cube-0.png", f"{place}002-a-red-dragon-0.png"]
    assert out.splitlines() == [
        *(f"wrote {name}" for name in names), f"all of them on one page: {place}contact-sheet.png",
    ]  # fmt: skip
    assert "kinoform: sample 1 to 2 of 2: 1/1" in err.splitlines()
    assert image(model, "a red cube", "a red dragon", "-o", place, "--overwrite", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == names
    assert result["failures"] == []
    assert [(made["prompt"], made["seed"], made["unknown_words"]) for made in result["results"]] == [
        ("a red cube", 0, []), ("a red dragon", 0, ["dragon"]),
    ]  # fmt: skip


def test_a_template_names_files_and_places_the_sheet(model, tmp_path):
    assert image(model, "A red Cube!", "--count", "2", "-o", f"{tmp_path}/o/{{kind}}-{{seed}}/{{prompt}}.webp") == 0
    assert files(tmp_path) == [
        "o/contact-sheet.png", "o/image-0/a-red-cube.webp", "o/image-1/a-red-cube.webp",
    ]  # fmt: skip


def test_without_a_name_one_goes_to_a_file_and_many_to_a_folder(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert image(model, "a red cube", "--seed", "4") == 0
    out, err = capsys.readouterr()
    assert out == "wrote out.png\n"
    again = "again: kinoform rerun out.png; another: --seed 5; more at once: --count 4 -o images/"
    assert err.splitlines()[-1] == f"kinoform: {again}"
    assert image(model, "a red cube", "--count", "2") == 0
    assert image(model, "a duck", "-o", "one/") == 0
    assert files(tmp_path) == [
        "images/001-a-red-cube-0.png", "images/002-a-red-cube-1.png", "images/contact-sheet.png",
        "one/001-a-duck-0.png", "one/contact-sheet.png", "out.png",
    ]  # fmt: skip


def test_a_clip_in_a_folder_is_its_frames_and_many_are_files(model, tmp_path):
    short = ["--model", str(model), "--steps", "1", "--frames", "2", "--size", "32x32"]
    assert main(["clip", "a red cube", *short, "-o", f"{tmp_path}/one/"]) == 0
    assert files(tmp_path) == ["one/clip.json", "one/frame_00000.png", "one/frame_00001.png"]
    assert main(["clip", "a red cube", *short, "--count", "2", "-o", f"{tmp_path}/clips/"]) == 0
    assert files(tmp_path / "clips") == ["001-a-red-cube-0.mp4", "002-a-red-cube-1.mp4", "contact-sheet.png"]
    for frames in ("one", "clips/001-a-red-cube-0.mp4"):
        assert len(read_clip(tmp_path / frames).frames) == 2


def test_what_is_there_already_is_not_made_again(copy, model, capsys):
    before = contents(copy)
    times = {path: path.stat().st_mtime_ns for path in (copy / "out").iterdir()}
    assert main(["image", *asked(model, copy)]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "kinoform: 8 of 8 are there already\n")
    assert contents(copy) == before
    assert {path: path.stat().st_mtime_ns for path in (copy / "out").iterdir()} == times


def test_what_is_missing_is_made_and_the_sheet_shows_all(copy, model, capsys):
    before = contents(copy)
    for name in (NAMES[2], NAMES[7], "contact-sheet.png"):
        (copy / "out" / name).unlink()
    assert main(["image", *asked(model, copy)]) == 0
    out, err = capsys.readouterr()
    assert "kinoform: 6 of 8 are there already" in err.splitlines()
    assert [line.rpartition("/")[2] for line in out.splitlines()] == [NAMES[2], NAMES[7], "contact-sheet.png"]
    assert contents(copy) == before


@pytest.mark.parametrize("change", ["another recipe", "another's file", "no picture"])
def test_what_is_in_the_way_is_not_touched_unless_asked_to(copy, model, capsys, change):
    before = contents(copy)
    place = copy / "out" / NAMES[4]
    if change == "another's file":
        place.write_bytes((copy / "out" / "contact-sheet.png").read_bytes())
    elif change == "no picture":
        place.write_text("dear diary")
    more = ["--guidance-scale", "2"] if change == "another recipe" else []
    now = contents(copy)
    code = main(["image", *asked(model, copy, *more)])
    name = copy / "out" / NAMES[0] if more else place
    err = capsys.readouterr().err
    assert is_refusal(code, err, f"output {name}: expected a new file", "which is there", "Use --overwrite"), err
    assert contents(copy) == now
    assert main(["image", *asked(model, copy, *more), "--overwrite"]) == 0
    assert (contents(copy) == before) == (not more)
    assert read_record(place).recipe["guidance_scale"] == (2.0 if more else 5.0)


def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(model, tmp_path, capsys):
    (tmp_path / "contact-sheet.png").mkdir()
    code = image(model, "a red cube", "a duck", "-o", f"{tmp_path}/")
    assert is_refusal(code, capsys.readouterr().err, "output", "not a folder", "contact-sheet.png")
    assert files(tmp_path) == []


def test_one_that_fails_is_said_and_the_others_are_there(model, tmp_path, monkeypatch, capsys):
    place = tmp_path / "out"
    words = ["a red cube", "--count", "3", "-o", f"{place}/", "--json"]
    with monkeypatch.context() as broken:
        broken.setitem(kinds(), "image", FailsToFinish(RuntimeError("the device is gone"), seed=1))
        assert image(model, *words) == 1
    out, err = capsys.readouterr()
    names = [f"00{number + 1}-a-red-cube-{number}.png" for number in range(3)]
    assert files(place) == [names[0], f"{names[1]}.latents.safetensors", names[2], "contact-sheet.png"]
    assert err.splitlines()[-1] == "kinoform: 1 of 3 failed. The same command again makes those that are missing"
    assert f"kinoform: failed: {place / names[1]}: decoding failed: RuntimeError: the device is gone" in err
    result = json.loads(out)
    assert result["outputs"] == [str(place / names[0]), str(place / names[2])]
    (failure,) = result["failures"]
    assert (failure["seed"], failure["output"]) == (1, str(place / names[1]))
    assert "kinoform decode" in failure["error"]
    assert image(model, *words) == 0  # as it was said
    assert set(names) < set(files(place))
    pictures = [read_image(place / name) for name in names]
    sheet = contact_sheet([pictures], ["a red cube"], scale=4)
    np.testing.assert_array_equal(read_image(place / "contact-sheet.png"), sheet)


REFUSED = {
    "no quotes": (["a", "red", "cube"], ("each prompt in quotes", 'kinoform image "a red cube"')),
    "many to a file": (["a cube", "a duck", "-o", "a.png"], ("a folder, or a name with {index}", "-o a/")),
    "no such field": (["a cube", "-o", "{sed}.png"], ("Did you mean seed?",)),
    "one name for two": (["a cube", "--count", "2", "-o", "{prompt}.png"], ("Put {index} into the template",)),
    "a count of none": (["a cube", "--count", "0"], ("--count", "from 1 to 100000", "got 0")),
    "a batch of none": (["a cube", "--batch", "0"], ("--batch", "got 0")),
    "too many": (["a cube", "a duck", "--count", "60000"], ("results", "at most 100000", "got 120000")),
    "a seed that is none": (["a cube", "--count", "2", "--seed", "x"], ("seed", "a whole number", "got x")),
    "seeds that end": (["a cube", "--count", "2", "--seed", str(2**63 - 1)], ("seed", f"got {2**63}")),
    "no such file": (["--prompts", "none.txt"], ("--prompts", "none.txt")),
    "a wrong ending": (["a cube", "-o", "{index}.tiff"], ("output", ".png", "001.tiff")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, case):
    arguments, parts = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    code = main(["image", *arguments])
    err = capsys.readouterr().err
    assert is_refusal(code, err, *parts), err
    assert files(tmp_path) == []


def test_many_assets_have_no_turntable(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = main(["asset", "a red cube", "a duck", "--turntable", "t.mp4"])
    assert is_refusal(code, capsys.readouterr().err, "--turntable", "one asset", "got many")


def test_ctrl_c_in_the_middle_of_many_leaves_whole_files(model, tmp_path):
    words = [
        "image",
        "a red cube",
        "--model",
        str(model),
        "--steps",
        "20",
        "--size",
        "32x32",
        "--batch",
        "2",
        "-o",
        "out/",
    ]
    with subprocess.Popen(
        command(*words, "--count", "99"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for _ in range(3):
            assert process.stdout.readline().startswith("wrote out/")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=250)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "kinoform: interrupted"
    assert "Traceback" not in err
    left = files(tmp_path)
    assert 3 <= len(left) < 99
    assert left == [f"out/{number + 1:03d}-a-red-cube-{number}.png" for number in range(len(left))]
    for number, name in enumerate(left):
        assert read_record(tmp_path / name).seed == number
        assert read_image(tmp_path / name).shape == (32, 32, 3)
