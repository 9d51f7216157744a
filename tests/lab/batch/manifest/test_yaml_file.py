"""YAML within limits: the same values as PyYAML's safe loader where that is plain, and where it is not."""

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.batch.manifest.yaml_file import MOST_NODES, from_yaml, line_of
from shared.errors import InputError

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(plain, st.booleans())
def test_what_is_dumped_is_read(value, flow):
    assert from_yaml(yaml.dump(value, Dumper=yaml.CSafeDumper, default_flow_style=flow).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "a: yes\nb: Off\nc: ~\nd:\ne: 0x1f\nf: 0o17\ng: 017\nh: 1_000\ni: 1:30\nj: -3\nk: 1e3\nl: .inf\nm: '3'",
        'a: |\n  two\n  lines\nb: >\n  one\n  line\nc: plain\n  text\nd: "\\u00e9\\x41"\n',
        "a: &x [1, 2]\nb: *x\nc: {d: *x}",
        "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {b: 4, <<: [{c: 5, a: 6}, *x]}",
        "- !!str 3\n- !!int '4'\n- !!float 5\n- !!seq [1]\n- !!map {a: 1}\n- ! x\n",
        "%YAML 1.1\n---\na: 1\n...\n",
        "",
        "# nothing",
    ],
)
def test_it_reads_as_the_safe_loader_does(text):
    assert from_yaml(text.encode()) == yaml.safe_load(text)


def test_dates_and_odd_keys_are_text():
    assert from_yaml(b"a: 2024-01-02\n1: x\nyes: y\n'<<': z\n? w") == {
        "a": "2024-01-02", "1": "x", "yes": "y", "<<": "z", "w": None,
    }  # fmt: skip


def test_an_anchor_may_stand_twice():
    assert from_yaml(b"a: &x 1\nb: *x\nc: &x 2\nd: *x") == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2", "line 2: expected each key once, got a twice"),
        ("a: 1\n1: 2\n'1': 3", "line 3: expected each key once, got 1 twice"),
        ("a: &x [*x]", "line 1: expected an alias of something above it that is complete, got *x"),
        ("a: &x [1]\nb: &x [*x]", "line 2: expected an alias of something above it"),
        ("a: *x", "line 1: expected an alias of something above it"),
        (
            "a: !!python/name:os.system x",
            "line 1: expected plain YAML, got the tag tag:yaml.org,2002:python/name:os.system",
        ),
        ("a: !mine {b: 1}", "line 1: expected plain YAML, got the tag !mine"),
        ("!!binary a: 1", "line 1: expected plain YAML, got the tag tag:yaml.org,2002:binary"),
        ("a: !!set {b}", "line 1: expected plain YAML, got the tag tag:yaml.org,2002:set"),
        ("a: !!int x", "line 1: expected int, got x"),
        ("a: !!bool x", "line 1: expected bool, got x"),
        ("? [a]\n: b", "line 1: expected a name as key, got a list or mapping"),
        ("x: &x a\n*x : b", "line 2: expected a name as key, got *x"),
        ("a: {<<: 3}", "line 1: expected a mapping to merge after <<, got 3"),
        ("a: 1\n---\na: 2", "line 2: expected one document, got another after ---"),
        ("a: 1\nb: ]", "line 2: expected YAML, got did not find expected node content"),
        ("a:\n\t- b", "line 2: expected YAML, got found character that cannot start any token"),
        ("a: \0", "manifest: expected YAML, got control characters are not allowed"),
        ("a: 0x" + "f" * 99, "line 1: expected a whole number of at most 256 bits"),
        ("[" * 65, "line 1: expected at most 64 lists and mappings in one another, got more"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 30 + "*a" + "]" * 30, "line 2: expected at most 64 lists"),
        (
            "a: &a [" + "1," * 1000 + "]\nb: [" + "*a," * 200 + "]",
            f"line 2: expected at most {MOST_NODES} keys and values",
        ),
    ],
)
def test_what_is_not_plain_is_refused_at_its_line(text, line):
    with pytest.raises(InputError) as caught:
        from_yaml(text.encode())
    assert str(caught.value).startswith(line), caught.value


@given(st.binary(max_size=60) | st.text(st.sampled_from("[]{}:,&*!<a1 \n-?|>'\"#%"), max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    with suppress(InputError):
        from_yaml(data)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("jobs", 2), ("jobs.0", 3), ("jobs.0.seed", 4), ("jobs.1.prompt", 5), ("jobs.1.seed", 5), ("jobs.7.seed", 2),
        ("jobs.0.seed.x", 4), ("jobs.x", 2), ("steps", None),
    ],
)  # fmt: skip
def test_the_line_of_a_key_or_of_what_holds_it(keys, line):
    data = b"version: 1\njobs:\n  - prompt: a\n    seed: 3\n  - prompt: b\n"
    assert line_of(data, keys.split(".")) == line
