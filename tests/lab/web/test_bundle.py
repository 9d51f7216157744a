"""index.html: whole, with its own script and no other."""

import base64
import hashlib
import re

import pytest

from lab.web.bundle import SCRIPTS, STATIC, STYLES, check_ours, index_html
from shared.errors import InputError


def test_the_policy_allows_the_script_that_is_there_and_no_network():
    page = index_html("Results").decode()
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    assert "<script" not in script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert f"script-src 'sha256-{digest}' file:;" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|//", policy)


def test_nothing_is_loaded_from_elsewhere():
    """Addresses in the page: the name of SVG, which is none."""
    page = index_html("Results").decode()
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert "{{ " not in page


def test_every_file_is_part_of_it():
    for folder, names in (("scripts", SCRIPTS), ("styles", STYLES)):
        files = [file.relative_to(STATIC / folder) for file in (STATIC / folder).rglob("*.*")]
        assert {file.with_suffix("").as_posix() for file in files} == set(names)


@pytest.mark.parametrize(
    "title", ["<script>alert(1)</script>", '"><img src=x>', "{{ script }}", "\\1 \\g<0>", "سماء 🦆"]
)
def test_titles_are_texts(title):
    page, plain = index_html(title).decode(), index_html("x").decode()
    assert page.count("<script") == plain.count("<script") == 1
    assert page.count("<img") == plain.count("<img")
    assert len(page) < len(plain) + 200


def test_only_a_page_of_ours_is_replaced(tmp_path):
    index = tmp_path / "index.html"
    check_ours(index)
    index.write_bytes(index_html("x" * 5000))
    check_ours(index)
    index.write_text("<html>my page, made with kinoform</html>")
    with pytest.raises(InputError, match=r"index\.html: expected no page there, or one of kinoform's, got another's"):
        check_ours(index)
    index.unlink()
    index.mkdir()
    with pytest.raises(InputError):
        check_ours(index)
