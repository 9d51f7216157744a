"""Choices in prompts: what is drawn, that it is drawn again, and what is refused."""

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.batch.manifest.choices import Choices
from shared.errors import InputError


def drawn(folder, template, seeds=range(200)):
    choices = Choices(folder)
    return {choices.draw(template, seed, "here")[0] for seed in seeds}


@pytest.mark.parametrize(
    ("template", "prompts"),
    [
        ("a {red|blue} cube", {"a red cube", "a blue cube"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
        ("a {|big }cube", {"a cube", "a big cube"}),
        ("{a|{b|{c|d}}e}", {"a", "be", "ce", "de"}),
        ("{|}", {""}),
        ("{{a|b}|c}", {"a", "b", "c"}),
        ("{the {red|blue} one}", {"{the red one}", "{the blue one}"}),
        ("{{a|b}}", {"{a}", "{b}"}),
        (r"\{{a|b}\}", {"{a}", "{b}"}),
        (r"{a\|b|c}", {"a|b", "c"}),
    ],
)
def test_every_alternative_is_drawn(tmp_path, template, prompts):
    assert drawn(tmp_path, template) == prompts


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("a cube", "a cube"),
        ("a | b", "a | b"),
        ("a {word} in braces", "a {word} in braces"),
        ("{}", "{}"),
        ("{a{b}c}", "{a{b}c}"),
        (r"one \{ is a sign", "one { is a sign"),
        (r"back\slash {}", r"back\slash {}"),
    ],
)
def test_where_there_is_no_choice_nothing_is_drawn(tmp_path, template, prompt):
    assert Choices(tmp_path).draw(template, 3, "here") == (prompt, False)


def test_alternatives_are_equally_likely(tmp_path):
    choices = Choices(tmp_path)
    counts = Counter(choices.draw("{a|b|c|d}", seed, "")[0] for seed in range(2000))
    assert counts.keys() == set("abcd")
    assert all(abs(count - 500) < 80 for count in counts.values())  # four standard deviations: 77


PROGRAM = """
import sys
from pathlib import Path
from lab.batch.manifest.choices import Choices
print(Choices(Path()).draw(sys.argv[1], 7, ""))
"""


def test_the_seed_and_the_template_alone_decide(tmp_path):
    template = "{a|b|c}{d|e|f}"
    first = Choices(tmp_path).draw(template, 7, "here")
    assert first[0][0] == Random("7:" + template).choice("abc")
    choices = Choices(tmp_path)
    for seed in range(9):
        choices.draw(template, seed, "there")
    assert choices.draw(template, 7, "there") == first
    run, environment = [sys.executable, "-c", PROGRAM, template], {"PYTHONHASHSEED": "1"}
    done = subprocess.run(run, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == str(first), done.stderr


def test_a_line_of_a_file_is_drawn(tmp_path):
    (tmp_path / "wildcards" / "wild").mkdir(parents=True)
    (tmp_path / "colours.txt").write_text("\ufeffred\n\n# not this\n  blue  \r\n", encoding="utf-8")
    (tmp_path / "wildcards" / "colours.txt").write_text("never: the one beside the manifest comes first")
    (tmp_path / "wildcards" / "shapes").write_text("a {small|large} {{ colours }} cube\na {{wild/animals}}")
    (tmp_path / "wildcards" / "wild" / "animals.txt").write_text("duck")
    cubes = {f"a {size} {colour} cube!" for size in ("small", "large") for colour in ("red", "blue")}
    assert drawn(tmp_path, "{{shapes}}!") == {*cubes, "a duck!"}
    assert drawn(tmp_path, "{x|{{colours}}}") == {"x", "red", "blue"}


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("a {red|blue", "here, character 3: expected braces in pairs, as in {red|blue}, got {red|blue"),
        ("a red} b", "here, character 6: expected braces in pairs, as in {red|blue}, got } b"),
        ("{a|{b|c}", "here, character 1: expected braces in pairs"),
        ("{{none}}", "here, wildcard none: expected none.txt beside the manifest or in wildcards/, got no such file"),
        ("{{../secret}}", "here, wildcard ../secret: expected a file in the manifest's folder or in wildcards/"),
        ("{{a/../../secret}}", "here, wildcard a/../../secret: expected a file in the manifest's folder"),
        ("{{/etc/passwd}}", "here, wildcard /etc/passwd: expected a file in the manifest's folder"),
        (r"{{..\secret}}", r"here, wildcard ..\secret: expected a file in the manifest's folder"),
        ("{{C:secret}}", "here, wildcard C:secret: expected a file in the manifest's folder"),
        ("{{outside}}", "here, wildcard outside: expected outside.txt beside the manifest"),
        ("{{empty}}", "here, wildcard empty: expected at least one line, got none in empty.txt"),
        ("{{bad}}", "here, wildcard bad, line 2, character 1: expected braces in pairs"),
        ("{{latin}}", "here, wildcard latin, line 1: expected text in UTF-8, got the byte 0xe9"),
        ("{{large}}", "here, wildcard large, "),
        ("{{loop}}", "here, wildcard loop: expected files that do not lead to themselves, got loop -> pool -> loop"),
        (
            "{{f0}}",
            "here, wildcard f10: expected files that do not lead to themselves, got 10 that lead",
        ),
        ("{{many}}", "here: expected a prompt of at most 100000 characters, from 10000 parts"),
        ("{{long}}", "here: expected a prompt of at most 100000 characters, from 10000 parts"),
        ("{" * 30 + "|}" * 30, "here: expected at most 20 choices in one another"),
        ("{a|b}" * 30_000, "here: expected at most 100000 characters, got 150000 characters"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, template, line):
    folder = tmp_path / "manifests"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "outside.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "bad.txt").write_text("fine\n{x\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "large.txt").write_text("x\n" * 1024**2 + "x")
    (folder / "loop.txt").write_text("{x|{{pool}}}")
    (folder / "pool.txt").write_text("water\n{{loop}}")
    for number in range(12):
        (folder / f"f{number}.txt").write_text(f"{{{{f{number + 1}}}}}")
    (folder / "many.txt").write_text("{{some}}" * 200)
    (folder / "some.txt").write_text("{|}" * 200)
    (folder / "long.txt").write_text("x" * 100_001)
    with pytest.raises(InputError) as caught:
        Choices(folder).draw(template, 0, "here")
    assert str(caught.value).startswith(line), caught.value


texts = st.text(st.characters(exclude_characters="{|}\\", exclude_categories=["Cs"]), max_size=5)
trees = st.recursive(
    texts, lambda inner: st.lists(st.lists(inner, max_size=3), min_size=2, max_size=3), max_leaves=8
)  # a text, or alternatives, each of several parts


def written(tree):
    return tree if isinstance(tree, str) else "{" + "|".join("".join(map(written, parts)) for parts in tree) + "}"


def possible(tree):
    """Everything that may be drawn from a tree, by trying all."""
    if isinstance(tree, str):
        return {tree}
    found = set()
    for parts in tree:
        ends = {""}
        for part in parts:
            ends = {end + more for end in ends for more in possible(part)}
        found |= ends
    return found


@given(st.lists(trees, max_size=3), st.integers(0, 2**63 - 1))
def test_what_is_drawn_is_one_of_all(tmp_path_factory, parts, seed):
    template = "".join(map(written, parts))
    prompt, chosen = Choices(tmp_path_factory.getbasetemp()).draw(template, seed, "here")
    assert prompt in possible([parts])
    assert chosen == ("{" in template)


@given(st.text(st.sampled_from("{}|\\ab"), max_size=30), st.integers(0, 9))
def test_any_template_is_drawn_or_refused(tmp_path_factory, template, seed):
    with suppress(InputError):
        Choices(tmp_path_factory.getbasetemp()).draw(template, seed, "here")
