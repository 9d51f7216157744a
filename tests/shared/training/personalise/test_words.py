"""A new word's rows, and what they begin as."""

import pytest
import torch
from torch import nn

from shared.models.prompts.text import TextConditioner
from shared.training.personalise.words import NewRows, first_vectors, learn_word
from tests.tiny import tiny_text


def test_new_rows_are_the_embedding_with_its_other_rows_fixed():
    torch.manual_seed(0)
    whole = nn.Embedding(7, 3)
    parts = NewRows(nn.Embedding.from_pretrained(whole.weight.detach().clone()), 3, 2)
    ids = torch.tensor([[0, 3, 4], [6, 4, 2]])
    assert torch.equal(parts(ids), whole(ids))
    for module in (whole, parts):
        module(ids).square().sum().backward()
    assert torch.equal(parts.rows.grad, whole.weight.grad[3:5])
    assert [name for name, p in parts.named_parameters() if p.requires_grad] == ["rows"]


def test_a_prompt_with_the_word_changes_with_its_vectors_and_others_do_not():
    text, rows = learn_word(TextConditioner(*tiny_text()), "zork", torch.zeros(2, 32))
    with torch.no_grad():
        before = text.encode(["a zork", "a cube"])
        rows.rows += torch.randn(2, 32)
        after = text.encode(["a zork", "a cube"])
    assert (after[0] - before[0]).abs().max() > 0.01
    assert torch.equal(after[1], before[1])


def test_it_begins_as_what_is_said_or_as_the_word_that_fits_best():
    text = TextConditioner(*tiny_text())
    weight = text.text_encoder.get_input_embeddings().weight.detach()
    row = {word: weight[text.tokenizer.get_vocab()[f"{word}</w>"]] for word in ("red", "cube", "duck")}

    def never(word):
        raise AssertionError

    said = first_vectors(text, "red cube", 3, 0, never)
    assert torch.equal(said, torch.stack([row["red"], row["cube"], row["red"]]))
    best = first_vectors(text, None, 1, 0, lambda word: float(word != "duck"))
    assert torch.equal(best, row["duck"][None])


def test_in_a_full_vocabulary_it_is_drawn_as_the_others_are_spread(monkeypatch):
    text = TextConditioner(*tiny_text())
    monkeypatch.setattr(text, "vocabulary", list)
    weight = text.text_encoder.get_input_embeddings().weight.detach()
    drawn = first_vectors(text, None, 2000, 1, len)
    assert float(drawn.std()) == pytest.approx(float(weight.std()), rel=0.05)
    assert torch.equal(drawn, first_vectors(text, None, 2000, 1, len))
    assert not torch.equal(drawn, first_vectors(text, None, 2000, 2, len))
