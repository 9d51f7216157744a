"""Prompts to the text conditioning of a denoiser.

A full CLIP vocabulary spells any word. A small one, such as the embedded model's, knows the words that it was trained
on (`shared.models.vocabulary`); other words are dropped before encoding and can be asked for with `unknown_words`.
A placeholder is a word that stands for tokens which were added to either (`shared.models.adapters.embeddings`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from shared.compute.execution import execution_device
from shared.models.vocabulary import is_word, known_words, pieces
from shared.models.words import fold


class TextConditioner:
    """A CLIP tokenizer and text encoder, used as in stock Stable Diffusion: last hidden state, padded to the limit."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        placeholders: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """placeholders: words, each with the tokens that it stands for, which the tokenizer has."""
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.placeholders = dict(placeholders or {})
        self._placeholder = _pattern(self.placeholders)
        words = known_words(tokenizer)
        self._words = None if words is None else dict.fromkeys(words)

    @property
    def max_length(self) -> int:
        """Tokens of a prompt, the start and the end token included."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """One conditioning a prompt, in float32, where the text encoder computes; n is `max_length`. The empty prompt
        is the unconditional one."""
        ids = self.token_ids(prompts)
        return self.text_encoder(ids.to(execution_device(self.text_encoder))).last_hidden_state.float()

    @torch.no_grad()
    def features(self, prompts: list[str]) -> Float[Tensor, "b d"]:
        """CLIP's features of prompts: the encoder's state at the end token, unit length."""
        ids = self.token_ids(prompts)
        return normalize(self.text_encoder(ids.to(execution_device(self.text_encoder))).pooler_output.float(), dim=-1)

    def vocabulary(self) -> list[str]:
        """The words of a small vocabulary, the most frequent in training first; [] for a full one."""
        return [*self.placeholders, *self._words] if self._words else []

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` of which a small vocabulary has no form, in order, each once; [] for a full vocabulary."""
        if self._words is None:
            return []
        words = filter(is_word, chain.from_iterable(pieces(part) for part in self._parts(prompt)[::2]))
        return [word for word in dict.fromkeys(words) if self._known(word) is None]

    def known_part(self, prompt: str) -> str:
        """What is encoded: `prompt`, without the words and marks outside a small vocabulary; of a word that it has in
        another form ("cubes"), that form. A placeholder becomes its tokens.
        """
        parts = self._parts(prompt)
        if self._words is not None:
            parts[::2] = [" ".join(filter(None, map(self._known, pieces(part)))) for part in parts[::2]]
        parts[1::2] = [" ".join(self.placeholders[word]) for word in parts[1::2]]
        return " ".join(filter(None, parts))

    def _parts(self, prompt: str) -> list[str]:
        """What lies before, between and after placeholders, which have the odd places, as they were added."""
        if self._placeholder is None:
            return [prompt]
        as_added = {word.lower(): word for word in self.placeholders}
        parts = self._placeholder.split(prompt)
        parts[1::2] = [as_added[word.lower()] for word in parts[1::2]]
        return parts

    def _known(self, piece: str) -> str | None:
        words = self._words or {}
        return piece if piece in words else fold(piece, words)

    def excess_tokens(self, prompt: str) -> int:
        """How many tokens at the end of `prompt` do not fit into `max_length` and are left out."""
        return max(0, len(self.tokenizer(self.known_part(prompt))["input_ids"]) - self.max_length)

    def token_ids(self, prompts: list[str]) -> Int[Tensor, "b n"]:
        """What the text encoder reads: the known part of each prompt, cut at the limit or padded to it."""
        known = [self.known_part(prompt) for prompt in prompts]
        return self.tokenizer(
            known, padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt"
        )["input_ids"].to(torch.long)


def _pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """Finds whole words, in capitals too, the longest first; None for no words."""
    longest = sorted(words, key=len, reverse=True)
    if not longest:
        return None
    ends = [("(?<!\\w)" * w[0].isalnum(), re.escape(w), "(?!\\w)" * w[-1].isalnum()) for w in longest]
    return re.compile(f"({'|'.join(map(''.join, ends))})", re.IGNORECASE)
