"""A new word whose vectors are trained, while every other word's stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from shared.errors import InputError
from shared.models.adapters.embeddings import with_word
from shared.models.prompts.text import TextConditioner
from shared.rng import generator
from shared.training.personalise.low_rank import in_full, write_safetensors

FILE = "learned_embeds.safetensors"  # the name that diffusers looks for


class NewRows(nn.Module):
    """An embedding of which `count` rows from `first` on are trained, in float32; the others are those of `known`."""

    def __init__(self, known: nn.Embedding, first: int, count: int) -> None:
        super().__init__()
        self.known = known.requires_grad_(False)
        self.first = first
        self.rows = nn.Parameter(known.weight.detach()[first : first + count].float().clone())

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        place = ids - self.first
        new = (place >= 0) & (place < len(self.rows))
        known = self.known(ids)
        return torch.where(new[..., None], self.rows[place.clamp(0, len(self.rows) - 1)].to(known), known)


def learn_word(text: TextConditioner, word: str, vectors: Float[Tensor, "n d"]) -> tuple[TextConditioner, NewRows]:
    """The text side with one word more, in place, whose vectors are trained from `vectors` on.

    Raises InputError where it has the word.
    """
    first = len(text.tokenizer)
    learned = with_word(text, word, vectors)
    rows = NewRows(learned.text_encoder.get_input_embeddings(), first, len(vectors))
    learned.text_encoder.set_input_embeddings(rows)
    return learned, rows


def save_word(folder: Path, word: str, rows: NewRows) -> None:
    """Write `FILE`, as diffusers has it: the word's vectors under its name."""
    write_safetensors(folder / FILE, {word: in_full(rows.rows)}, {"format": "pt"})


def first_vectors(
    text: TextConditioner, starts_as: str | None, count: int, seed: int, loss_of: Callable[[str], float]
) -> Float[Tensor, "n d"]:
    """What a new word begins as: the vectors of `starts_as`, repeated or cut to `count` tokens.

    Without that, those of the word of a small vocabulary that explains the pictures best, by `loss_of`; in a full one,
    whose words are too many to try, numbers drawn as its embeddings are spread. Raises InputError for `starts_as` of
    which the model knows nothing.
    """
    weight = text.text_encoder.get_input_embeddings().weight.detach().float()
    if starts_as is None and not text.vocabulary():
        spread, middle = weight.std(dim=0).cpu(), weight.mean(dim=0).cpu()
        return middle + spread * torch.randn(count, weight.shape[1], generator=generator(seed, 3))
    words = starts_as or min(text.vocabulary(), key=loss_of)
    ids = text.tokenizer(text.known_part(words), add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("starts_as", expected="words that the model knows", got=words)
    found = F.embedding(torch.tensor(ids, device=weight.device), weight)
    return found.repeat(-(-count // len(found)), 1)[:count].cpu()
