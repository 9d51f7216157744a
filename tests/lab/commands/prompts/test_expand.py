"""`kinoform prompt expand`: by rules, and by a program."""

import json
import sys

import pytest

from lab.main import main
from tests.lab.command import is_refusal


def program(tmp_path, text):
    file = tmp_path / "rewrite.py"
    file.write_text(text)
    return f"{sys.executable} {file}"


def test_it_prints_the_prompt_alone(capsys):
    assert main(["prompt", "expand", "a red cube"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("a red cube, ")
    assert len(first.splitlines()) == 1
    assert main(["prompt", "expand", "a red cube", "--seed", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == first.strip()


def test_a_program_gets_the_prompt_and_gives_another(tmp_path, capsys):
    own = program(tmp_path, "import sys; print(sys.stdin.read().upper(), '\\n on the moon')")
    assert main(["prompt", "expand", "a réd cube; echo $HOME", "--command", own]) == 0
    assert capsys.readouterr().out == "A RÉD CUBE; ECHO $HOME on the moon\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("raise SystemExit('no key')", ("exit code 1", "no key")),
        ("pass", ("a prompt on its output", "exit code 0")),
        ("import time; time.sleep(60)", ("an answer within 1 s",)),
    ],
)
def test_a_program_that_fails_is_one_line(tmp_path, capsys, text, parts):
    code = main(["prompt", "expand", "a cube", "--command", program(tmp_path, text), "--timeout", "1"])
    said = capsys.readouterr().err
    assert code == 1
    assert len(said.splitlines()) == 1
    assert all(part in said for part in parts)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--command", "no-such-program-here"], ("--command", "No such file")),
        (["--command", "'open quote"], ("--command", "No closing quotation")),
        (["--command", ""], ("--command", "a program that runs")),
        (["--for", "song"], ("--for", "image or clip or asset")),
        (["--seed", "-1"], ("--seed", "got -1")),
    ],
)
def test_what_is_wrong_is_one_line(capsys, flags, parts):
    assert is_refusal(main(["prompt", "expand", "a cube", *flags]), capsys.readouterr().err, *parts)


@pytest.mark.parametrize("text", ["", " ,", "x" * 1999])
def test_no_prompt_and_one_too_long(capsys, text):
    assert is_refusal(main(["prompt", "expand", text]), capsys.readouterr().err, "prompt")
