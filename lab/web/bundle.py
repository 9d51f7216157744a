"""index.html: the page's own markup, styles and scripts in one file: no half of it can be of another version."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from pathlib import Path

from shared.errors import InputError
from shared.version import VERSION

STATIC = Path(__file__).parent / "static"
STYLES = ("page", "grid", "dialogs")
# In this order: each uses those before it.
SCRIPTS = (
    "dom", "store", "marks", "filters", "players", "viewer/gl", "viewer/glb", "viewer/viewer", "media", "toolbar",
    "grid", "detail", "compare", "page",
)  # fmt: skip
MARK = '<meta name="generator" content="kinoform'  # by which a page is known for ours
HEAD_BYTES = 2048  # of a page, in which the mark stands


def index_html(title: str) -> bytes:
    """The page, with `title` until its data say another."""
    style, script = _joined("styles", STYLES, ".css"), f'(() => {{\n"use strict";\n{_scripts()}}})();\n'
    parts = {
        "title": html.escape(title),
        "version": VERSION,
        "policy": _policy(script),
        "style": f"\n{style}",
        "script": script,
    }
    # All at once: a title may look like a place for something else.
    page = re.sub(r"\{\{ (\w+) \}\}", lambda place: parts[place[1]], (STATIC / "page.html").read_text("utf-8"))
    return page.encode("utf-8")


def check_ours(index: Path) -> None:
    """Raises InputError for an index.html that another has made."""
    if not index.exists():
        return
    head = b""
    if index.is_file():
        with index.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if MARK.encode() not in head:
        raise InputError(
            f"page {index}",
            expected="no page there, or one of kinoform's",
            got="another's",
            hint="Move it, or name another folder",
        )


def _policy(script: str) -> str:
    """What the page may load: its own script, and files from the disk. Nothing from any network."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' file:; style-src 'unsafe-inline'; "
        "img-src file: data: blob:; media-src file:; base-uri 'none'; form-action 'none'"
    )


def _scripts() -> str:
    return _joined("scripts", SCRIPTS, ".js")


@cache
def _joined(folder: str, names: tuple[str, ...], suffix: str) -> str:
    return "\n".join((STATIC / folder / f"{name}{suffix}").read_text("utf-8") for name in names)
