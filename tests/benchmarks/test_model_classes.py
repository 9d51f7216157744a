"""The table of pipeline classes: every row is in the docs; what a row says."""

import re
from pathlib import Path

import pytest

from benchmarks.model_classes import END, START, Row, table, written
from tests.shared.models.pipelines.tiny.table import TINY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def test_the_docs_have_every_class_and_each_passes():
    held = PAGE.read_text("utf-8").split(START)[1].split(END)[0]
    rows = [line.split(" | ") for line in held.splitlines() if line.startswith("| `")]
    assert [re.findall("`(.*)`", row[0])[0] for row in rows] == list(TINY)
    assert len(rows) >= 20
    for row in rows:
        assert float(row[2]) <= 1e-4
        assert [cell.strip(" |") for cell in row[4:]] == ["yes", "yes"]


def test_a_row_says_what_was_seen():
    rows = [Row("A", "clip", 2e-6, {"width": 32, "frames": 5}, True, False), Row("B", "image", 0.0, {}, True, True)]
    assert table(rows).splitlines()[2:] == [
        "| `A` | clip | 2e-06 | width 32, frames 5 | yes | NO |",
        "| `B` | image | 0 | takes no size | yes | yes |",
    ]


def test_a_page_keeps_what_is_around_the_table():
    assert written(f"a\n{START}\nold\n{END}\nb", "new") == f"a\n{START}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="unpack"):
        written("a page without marks", "new")
