"""What the documents say, done: Python blocks and the notebook run, commands parse, docstrings' examples hold."""

import doctest
import json
import re
import shlex
from pathlib import Path

import pytest

import kinoform
import lab.results
import lab.session
import shared.words
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
    from lab.commands.make import EXAMPLES

    for kind, examples in EXAMPLES.items():
        for example in examples:
            name, *words = shlex.split(example)
            assert name == "kinoform"
            assert parse(words).command == kind


@pytest.mark.parametrize("module", [kinoform, lab.session, lab.results, shared.words], ids=lambda m: m.__name__)
def test_examples_of_docstrings_hold(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


def test_every_public_name_is_there_and_described():
    for name in kinoform.__all__:
        assert getattr(kinoform, name).__doc__, name


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """Each cell as a notebook does it: its last expression is shown, in the richest form that it has."""
    import ast

    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 10
    names, shown = {}, []
    for number, text in enumerate(code):
        *body, last = ast.parse(text).body
        exec(compile(ast.Module([*body], []), f"cell {number}", "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), f"cell {number}", "exec"), names)
            continue
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        for form in ("_repr_html_", "_repr_png_", "__repr__"):
            if hasattr(value, form):
                shown.append((form, getattr(value, form)()))
                break
    assert [form for form, _ in shown].count("_repr_png_") == 2
    assert [text.count("data:image/webp;base64,") for form, text in shown if form == "_repr_html_"] == [1, 1]
    assert all(text for _, text in shown)
