"""The command as a user meets it: wrong input, interrupts, a full disk. Each run is a process of its own."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from lab.main import main
from shared.artifacts.run_record import RunRecord
from tests.lab.command import ROOT, command, environment, is_refusal, kinoform

COMMANDS = (
    "clip", "image", "asset", "world", "data", "train", "words", "plan", "score", "decode", "describe", "rerun",
    "doctor", "batch", "gallery", "models", "inspect", "convert",
)  # fmt: skip
LONGEST_ARGUMENT = 128 * 1024 - 64  # what Linux lets one argument be


def folder_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_help_names_the_commands_and_imports_no_torch(tmp_path):
    run = subprocess.run(
        [*command("--help")[:1], "-X", "importtime", *command("--help")[1:]],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(f"    {name} " in run.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "pydantic" in imported  # the list is the list
    assert not imported & {"torch", "numpy", "diffusers", "transformers", "av", "rich", "PIL"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: kinoform {name}")


WRONG = {
    "no command": ([], ("command", "clip, image, asset", "got nothing")),
    "unknown command": (["clp", "a red cube"], ("got clp", "Did you mean clip?")),
    "a flag for a command": (["--stesp", "clip"], ("command", "got --stesp")),
    "unknown flag": (["clip", "a cube", "--stesp", "3"], ("got --stesp", "Did you mean --steps?")),
    "no prompt": (["clip"], ("clip", "PROMPT")),
    "empty prompt": (["clip", ""], ("prompt", "got an empty text")),
    "blank prompt": (["image", " \n"], ("prompt", "got an empty text")),
    "huge prompt": (["clip", "cube " * (LONGEST_ARGUMENT // 5)], ("prompt", "1 to 2000 characters")),
    "prompt in no encoding": (["clip", b"a \xff cube"], ("prompt", "expected text")),
    "words without quotes": (["clip", "a", "red", "cube"], ("got a red cube", "quotes")),
    "zero frames": (["clip", "a cube", "--frames", "0"], ("frames", "whole number from 1 to 1024", "got 0")),
    "negative frames": (["clip", "a cube", "--frames", "-1"], ("frames", "got -1")),
    "too many frames": (["clip", "a cube", "--frames", "1000000000"], ("frames", "got 1000000000")),
    "frames in words": (["clip", "a cube", "--frames", "ten"], ("frames", "got ten")),
    "fps of zero": (["clip", "a cube", "--fps", "0"], ("fps", "got 0")),
    "no steps": (["asset", "a cube", "--steps", "0"], ("steps", "got 0")),
    "guidance is no number": (["asset", "a cube", "--guidance-scale", "nan"], ("guidance_scale", "got nan")),
    "negative seed": (["image", "a cube", "--seed", "-1"], ("seed", "got -1")),
    "size in one number": (["clip", "a cube", "--size", "64"], ("--size", "WIDTHxHEIGHT", "got 64")),
    "size of nothing": (["clip", "a cube", "--size", "0x64"], ("width", "from 8", "got 0")),
    "unknown preset": (["clip", "a cube", "--preset", "drfat"], ("clip preset", "draft", "Did you mean draft?")),
    "unknown device": (["clip", "a cube", "--device", "tpu"], ("--device", "auto, cpu or cuda", "got tpu")),
    "unknown ending": (["clip", "a cube", "-o", "cube.avi"], ("output", ".mp4", "got cube.avi")),
    "unknown image ending": (["image", "a cube", "-o", "cube.tiff"], ("output", ".png", "got cube.tiff")),
    "unknown asset ending": (["asset", "a cube", "-o", "cube.fbx"], ("output", ".glb", "got cube.fbx")),
    "unknown turntable ending": (["asset", "a cube", "--turntable", "t.avi"], ("output", ".mp4", "got t.avi")),
    "below a file": (["clip", "a cube", "-o", "file/cube.mp4"], ("output", "not a file among them")),
    "a folder as file": (["asset", "a cube", "-o", "folder.glb"], ("output", "not a folder", "got folder.glb")),
    "where nobody may write": (["image", "a cube", "-o", "/proc/cube.png"], ("output", "got /proc/cube.png")),
    "a folder of something else": (["clip", "a cube", "-o", "full"], ("output", "a new or empty folder", "got full")),
    "a fast gif": (["clip", "a cube", "-o", "cube.gif", "--fps", "60"], ("fps for .gif", "at most 50", "got 60")),
    "describe nothing": (["describe", "no.mp4"], ("file", "a file that exists", "got no.mp4")),
    "describe another file": (["describe", "file"], ("file", "expected a readable clip")),
    "decode nothing": (["decode", "no.mp4.latents.safetensors"], ("file", "a file that exists")),
    "decode another file": (["decode", "file.safetensors", "-o", "a.mp4"], ("file", "a file that exists")),
    "offload without a GPU": (
        ["clip", "a cube", "--offload", "model", "--device", "cpu"],
        ("offload", "none without a GPU", "got model"),
    ),
    "rerun nothing": (["rerun", "no.mp4"], ("file", "a file that exists", "got no.mp4")),
    "score nothing": (["score", "no.mp4", "--prompt", "a cube"], ("file", "a file that exists", "got no.mp4")),
    "score what says nothing": (["score", "file"], ("file",)),
    "score an empty prompt": (["score", "file", "--prompt", " "], ("--prompt", "some words")),
    "score text": (["score", "file", "--prompt", "a cube"], ("file", ".mp4", "got file")),
    "unknown stage": (["train", "vdeo", "--data", "full", "--out", "o"], ("STAGE", "Did you mean video?")),
    "train on nothing": (
        ["train", "image", "--data", "no", "--out", "o"],
        ("--data", "a folder that exists", "got no"),
    ),
    "train into a file": (["train", "image", "--data", "full", "--out", "file"], ("--out", "a folder", "got file")),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_before_torch_is_loaded(tmp_path, case):
    arguments, parts = WRONG[case]
    (tmp_path / "file").write_text("not a clip")
    (tmp_path / "folder.glb").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    before = folder_names(tmp_path)
    watch = "import sys; from lab.main import main; code = main(); sys.exit(99 if 'torch' in sys.modules else code)"
    encoded = [part if isinstance(part, bytes) else part.encode() for part in arguments]
    run = subprocess.run(
        [*command()[:1], "-c", watch, *encoded], cwd=tmp_path, env=environment(), capture_output=True, timeout=250
    )
    stderr = run.stderr.decode()
    shown = stderr.splitlines()[-1:] if case == "no command" else stderr.splitlines()
    assert is_refusal(run.returncode, "\n".join(shown), *parts), (run.returncode, stderr)
    assert run.stdout == b""
    assert folder_names(tmp_path) == before


def test_a_megabyte_of_prompt_is_one_short_line(capsys):
    assert main(["clip", "cube " * 2**18]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"kinoform: prompt: expected 1 to 2000 characters, got {5 * 2**18} characters"


def test_an_unknown_key_in_a_preset_names_the_nearest(tmp_path, capsys, monkeypatch):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "mine.yaml").write_text("guidance_scal: 3\n")
    monkeypatch.setattr("shared.recipe.CONFIGS", tmp_path)
    assert main(["clip", "a cube", "--preset", "mine"]) == 2
    err = capsys.readouterr().err
    assert "unknown key guidance_scal" in err
    assert "Did you mean guidance_scale?" in err


@pytest.mark.parametrize("argument", [["--help"], ["--version"]])
def test_asking_is_no_error(argument, capsys):
    assert main(argument) == 0
    assert capsys.readouterr().out


def test_traceback_shows_where_an_error_came_from(capsys):
    assert main(["clip", "a cube", "--frames", "0", "--traceback"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("kinoform: frames: expected")


def test_an_unforeseen_error_is_one_line_too(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr("lab.parser.parse", broken)
    assert main([]) == 1
    assert capsys.readouterr().err == "kinoform: failed: RuntimeError: out of\\nluck (--traceback shows where)\n"


def test_signals_are_left_as_they_were(capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    main(["--version"])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_while_sampling_leaves_nothing(tmp_path, model):
    arguments = ["clip", "a red cube", "--model", model, "--steps", "1000", "-o", "out.mp4"]
    with subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "kinoform: sample: 1/1000\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=250)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "kinoform: interrupted"
    assert "Traceback" not in err
    assert out == ""
    assert folder_names(tmp_path) == []


def test_termination_while_torch_is_imported_is_an_interrupt_too(tmp_path):
    with subprocess.Popen(
        [*command()[:1], "-X", "importtime", *command("doctor")[1:]],
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for line in process.stderr:
            if line.rstrip().endswith("torch._utils"):  # in the middle of torch's own import
                process.send_signal(signal.SIGTERM)
                break
        _, err = process.communicate(timeout=250)
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert process.returncode == 130
    assert said == ["kinoform: interrupted"]


STUCK = """
import time, torch
from lab.signals import interruptible
with interruptible([]):
    print("in one call", flush=True)
    a = torch.randn(9000, 9000)
    a @ a @ a @ a @ a @ a @ a @ a
    time.sleep(1)
"""


def test_a_call_that_takes_long_is_left_at_the_second_signal(tmp_path):
    """One torch call, in which Python takes no signals: the first is answered, the second ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=ROOT, env=environment(),
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "in one call\n"
        time.sleep(3)  # past the filling of the matrix, into the products
        process.send_signal(signal.SIGINT)
        said = process.stderr.readline()
        assert said == "kinoform: interrupted: stopping after the step at hand; once more stops at once\n"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    assert process.returncode == 130


def small_files_only():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, model):
    arguments = ["clip", "a red cube", "--model", model, "--steps", "1", "--frames", "4", "-o", "out.mp4"]
    run = kinoform(*arguments, folder=tmp_path, preexec_fn=small_files_only)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        "kinoform: cannot write out.mp4.latents.safetensors: the disk is full"
    )
    assert "Traceback" not in run.stderr
    assert folder_names(tmp_path) == []


def test_a_full_standard_output_is_one_line(tmp_path):
    (tmp_path / "record.json").write_text(
        RunRecord.of_run("clip", {"model": "world", "seed": 0}, 0, "world", {}).to_json()
    )
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            command("describe", "record.json"),
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert run.returncode == 1
    assert run.stderr.startswith("kinoform: failed: OSError: [Errno 28] No space left on device")
    assert len(run.stderr.splitlines()) == 1


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    (tmp_path / "record.json").write_text(
        RunRecord.of_run("clip", {"model": "world", "seed": 0}, 0, "world", {}).to_json()
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        run = subprocess.run(
            command("describe", "record.json"),
            cwd=tmp_path, env=environment(), stdout=pipe, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert (run.returncode, run.stderr) == (1, "")


def test_a_cut_off_model_file_is_one_line(tmp_path, model):
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", model, broken], check=True)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    run = kinoform("clip", "a red cube", "--model", "broken", folder=tmp_path)
    assert is_refusal(run.returncode, run.stderr, "unet"), run.stderr
    assert folder_names(tmp_path) == ["broken"]
