import pytest
import torch

from shared.models.image_model import load_image_model
from shared.models.prompts.text import TextConditioner, weighted
from shared.models.prompts.weights import parts_of, without_weights
from tests.tiny import build_xl_folder, tiny_text


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a red cube", [("a red cube", 1.0)]),
        ("a (red:1.4) cube", [("a ", 1.0), ("red", 1.4), (" cube", 1.0)]),
        ("(a (red:2) cube:1.5)", [("a ", 1.5), ("red", 3.0), (" cube", 1.5)]),
        ("(red:0)", [("red", 0.0)]),
        ("a cube (red) ((blue))", [("a cube (red) ((blue))", 1.0)]),
        (r"a \(red:1.4\) cube", [("a (red:1.4) cube", 1.0)]),
        (r"(a \(b\):1.5)", [("a (b)", 1.5)]),
        ("12:30 (a:b) (:1.2)", [("12:30 (a:b) ", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_parts_are_found_from_the_inside_out(prompt, parts):
    assert [(part.text, pytest.approx(part.weight)) for part in parts_of(prompt)] == parts
    assert without_weights(prompt) == "".join(text for text, _ in parts)


def test_hostile_brackets_cost_nothing():
    assert parts_of("(" * 100_000)[0].text == "(" * 100_000
    assert without_weights("(a:1.1" * 1000) == "(a:1.1" * 1000


def test_tokens_of_a_part_count_as_it_says_and_the_mean_stays():
    text = TextConditioner(*tiny_text())
    plain, heavy = text.encode(["a red cube", "a (red:1.5) cube"])
    # the start token, then "a", then "red"; both prompts are the same tokens
    assert torch.equal(text.token_ids(["a red cube"]), text.token_ids(["a (red:1.5) cube"]))
    expected = plain.clone()
    expected[2] *= 1.5
    expected *= plain.mean() / expected.mean()
    torch.testing.assert_close(heavy, expected)
    torch.testing.assert_close(heavy.mean(), plain.mean())


def test_one_prompt_with_weights_leaves_the_others_of_its_batch():
    text = TextConditioner(*tiny_text())
    alone = text.encode(["a blue ball"])[0]
    torch.testing.assert_close(text.encode(["a (red:1.5) cube", "a blue ball"])[1], alone)


def test_words_that_are_left_out_take_no_weight_from_others():
    text = TextConditioner(*tiny_text())
    assert text.unknown_words("a (shiny red:1.5) cube") == ["shiny"]
    torch.testing.assert_close(text.encode(["a (shiny red:1.5) cube"]), text.encode(["a (red:1.5) cube"]))
    assert text.excess_tokens("(red:1.2) " * 15) == 1


def test_both_encoders_of_a_pair_hear_of_weights(tmp_path):
    model = load_image_model(build_xl_folder(tmp_path / "model"))
    plain, heavy = model.conditions(["a red cube", "a (red:1.5) cube"]).text
    expected = []
    for half in plain.chunk(2, dim=-1):
        weights = torch.ones(1, len(half))
        weights[0, 2] = 1.5
        expected.append(weighted(half[None], weights)[0])
    torch.testing.assert_close(heavy, torch.cat(expected, dim=-1))
