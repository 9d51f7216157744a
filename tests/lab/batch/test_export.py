"""Prompts that would do something to whoever looks at them: each is text on a line, in tables and on pages."""

import csv
import json

import pytest

from lab.batch.export import COLUMNS, export
from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Entry
from shared.errors import printable
from tests.lab.batch.pictures import batch, picture
from tests.lab.command import is_refusal

NASTY = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"double\", 'single', `tick`; $(touch x)",
    "duck \U0001f986 \U0001f469\u200d\U0001f680",
    "a \u202eright to left\u202c \u2066isolated\u2069 \u200f",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \x7f \x08\x08",
    "two\nlines\r\nand\ttab \x0b\x0c \x85 \u2028 \u2029",
    "invisible \U000e0041\ufeff",
    "long " * 400,
)


def is_tame(text):
    """Whether a terminal shows it as it stands, line by line."""
    return all(printable(line) == line for line in text.split("\n"))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A batch of prompts, with a task that fails and names a hostile file."""
    folder = tmp_path_factory.mktemp("nasty")
    broken = picture(folder / "\x1b[31m\u202ered\u2028.png")
    jobs = [{"kind": "image", "model": str(model), "steps": 1, "prompt": text, "tags": [text[:9]]} for text in NASTY]
    jobs += [{"name": "broken", "kind": "upscale", "source": str(broken)}]
    (folder / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    broken.write_bytes(b"\x1b[31mno picture")
    made = batch("run", "jobs.json", "--out", "out", "--workers", "1", "--no-score", folder=folder)
    assert made.returncode == 1
    assert "9 of 10 done, 1 failed" in made.stdout
    assert is_tame(made.stdout)
    assert is_tame(made.stderr)
    return folder


def test_status_shows_them_on_a_line(folder):
    told = batch("status", "out", folder=folder)
    assert is_tame(told.stdout)
    failed = [line for line in told.stdout.splitlines() if line.startswith("failed: broken: ")]
    assert len(failed) == 1
    assert r"\x1b[31m\u202ered\u2028.png" in failed[0]
    as_json = batch("status", "out", "--json", folder=folder).stdout
    assert is_tame(as_json)
    assert len(as_json.splitlines()) == 1
    assert failed[0] in json.loads(as_json)["failures"]


def test_a_table_has_a_task_a_line(folder):
    batch("export", "out", "-o", "t.csv", folder=folder)
    with (folder / "t.csv").open(encoding="utf-8", newline="") as file:
        text = file.read()
    assert is_tame(text.replace("\r\n", "\n"))
    lines = text.split("\r\n")[:-1]
    assert len(lines) == 1 + len(NASTY) + 1
    rows = list(csv.DictReader(lines))
    assert [row["prompt"] for row in rows][: len(NASTY)] == [printable(text) for text in NASTY]


def test_json_lines_give_them_back_as_they_were(folder):
    batch("export", "out", "-o", "t.jsonl", folder=folder)
    text = (folder / "t.jsonl").read_text("utf-8")
    assert is_tame(text)
    values = [json.loads(line) for line in text.split("\n")[:-1]]
    assert [each["prompt"] for each in values[: len(NASTY)]] == list(NASTY)
    assert [each["recipe"]["prompt"] for each in values[: len(NASTY)]] == list(NASTY)
    assert "\U0001f986" in text  # what can be shown is


def test_the_page_holds_no_script_of_theirs(folder):
    files = [folder / "out/index.html", *(folder / "out/.page").glob("*.js")]
    found = "".join(file.read_text("utf-8") for file in files)
    assert "alert(1)" in found
    for text in ("<script>alert", "</script><img", "\u2028", "\x1b"):
        assert text not in found


@pytest.mark.parametrize("where", ["prompt", "name", "tags", "output"])
def test_a_hundred_thousand_characters_are_refused_in_a_line(tmp_path, where):
    text = "x\x1b[31m" * 15_000
    job = {"kind": "image", "prompt": "a red cube", where: [text] if where == "tags" else text}
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "jobs": [job]}))
    made = batch("check", "jobs.json", folder=tmp_path)
    assert is_refusal(made.returncode, made.stderr, where), made.stderr
    assert is_tame(made.stderr)
    assert len(made.stderr) < 2000


def test_every_column_is_there_and_a_null_does_no_harm(tmp_path):
    ledger = Ledger.open(tmp_path / "batch.sqlite")
    entry = Entry("a", "image", {"prompt": "half \x00"}, {}, "a.png", "key", "world|image|x", tags=["\x1b"])
    enqueue(ledger, "m.json", [entry], now=1)
    assert export(ledger, tmp_path / "t.csv") == 1
    (row,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert tuple(row) == COLUMNS
    assert (row["prompt"], row["tags"]) == (r"half \x00", r"\x1b")
    ledger.close()
