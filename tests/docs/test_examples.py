"""What the documents say, done: Python blocks and the notebook run, commands parse, docstrings' examples hold."""

import doctest
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import kinoform
import lab.results
import lab.session
import shared.models.prompts.words
from lab.kinds import kinds
from lab.parser import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for text in blocks(page, "python"):
        exec(compile(text, str(page), "exec"), names)


def commands(page):
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["kinoform"]:
                yield words[1:]


@pytest.mark.parametrize("page", [p for p in PAGES if list(commands(p))], ids=lambda page: page.name)
def test_commands_are_ones_that_there_are(page):
    for words in commands(page):
        assert callable(parse(words).run), words


def test_help_s_examples_are_commands():
    for kind in kinds().values():
        assert kind.examples, kind.name
        for example in kind.examples:
            name, *words = shlex.split(example)
            assert name == "kinoform"
            assert parse(words).command == kind.name


@pytest.mark.parametrize(
    "module", [kinoform, lab.session, lab.results, shared.models.prompts.words], ids=lambda m: m.__name__
)
def test_examples_of_docstrings_hold(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 10
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [kind for cell in code for output in cell.outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 2
    moving = [
        output.data["text/html"] for cell in code for output in cell.outputs if "text/html" in output.get("data", {})
    ]
    assert [text.count("data:image/webp;base64,") for text in moving] == [1, 1]
    (said,) = [output.text for output in code[-1].outputs]
    assert "Did you mean steps?" in said
