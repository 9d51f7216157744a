import pytest

from shared.models.look.licence import first_line, licence_of


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: my-own\n---\n", "my-own"),
        ("---\nlicense: other\n---\n", "other"),
        ("# Model\nlicense: mit\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\n{{{\n---\n", None),
        ("---\n!!python/object/apply:os.mkdir [x]\n---\n", None),
        ("", None),
    ],
)
def test_model_cards(card, name, tmp_path):
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) == (name, None)


def test_texts(tmp_path):
    assert licence_of(tmp_path) == (None, None)
    (tmp_path / "LICENSE.md").write_text("\n## The *Licence* of Mine\n\nDo as you like.\n")
    text = licence_of(tmp_path)[1]
    assert text is not None
    assert first_line(text) == "The *Licence* of Mine"
    assert first_line("\n\n") == ""
