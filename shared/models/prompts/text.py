"""Prompts to the text conditioning of a denoiser.

A full CLIP vocabulary spells any word. A small one, such as the embedded model's, knows the words that it was trained
on (`shared.models.prompts.vocabulary`); other words are dropped before encoding, and `unknown_words` tells of them.
Parts of a prompt may count more or less than others (`shared.models.prompts.weights`). A placeholder is a word that
stands for tokens which were added to either (`shared.models.adapters.embeddings`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from shared.compute.execution import execution_device
from shared.diffusion.conditioning import Conditioning
from shared.errors import ModelError
from shared.models.prompts.vocabulary import is_word, known_words, pieces
from shared.models.prompts.weights import parts_of, without_weights
from shared.models.prompts.words import fold

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")  # of which a tokenizer has either
TextEncoder: TypeAlias = CLIPTextModel | CLIPTextModelWithProjection


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The CLIP tokenizer in a folder. Raises ModelError where there is none, or a broken one."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):  # the library would make one up
        raise ModelError(f"tokenizer in {folder}", expected="tokenizer.json or vocab.json", got="none of the two")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the libraries below raise whatever a broken file makes them stumble over
        raise ModelError(f"tokenizer in {folder}", expected="a CLIP tokenizer", got=str(error)) from error


class TextConditioner:
    """A CLIP tokenizer and text encoder, used as in stock Stable Diffusion: last hidden state, padded to the limit."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: TextEncoder,
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

    @property
    def encoders(self) -> list[TextEncoder]:
        """The networks that read a prompt."""
        return [self.text_encoder]

    def conditions(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """What a UNet is told of prompts. size: width and height in pixels, of which it hears nothing here."""
        return Conditioning(self.encode(prompts))

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """One conditioning a prompt, in float32, where the text encoder computes; n is `max_length`. The empty prompt
        is the unconditional one."""
        ids = self.token_ids(prompts)
        states = self.text_encoder(ids.to(execution_device(self.text_encoder))).last_hidden_state.float()
        return weighted(states, self.token_weights(prompts))

    @torch.no_grad()
    def features(self, prompts: list[str]) -> Float[Tensor, "b d"]:
        """CLIP's features of prompts: the encoder's state at the end token, projected where it has a projection; unit
        length."""
        read = self.text_encoder(self.token_ids(prompts).to(execution_device(self.text_encoder)))
        vector = read.text_embeds if isinstance(self.text_encoder, CLIPTextModelWithProjection) else read.pooler_output
        return normalize(vector.float(), dim=-1)

    def vocabulary(self) -> list[str]:
        """The words of a small vocabulary, the most frequent in training first; [] for a full one."""
        return [*self.placeholders, *self._words] if self._words else []

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` of which a small vocabulary has no form, in order, each once; [] for a full vocabulary."""
        if self._words is None:
            return []
        text = without_weights(prompt)
        words = filter(is_word, chain.from_iterable(pieces(part) for part in self._parts(text)[::2]))
        return [word for word in dict.fromkeys(words) if self._known(word) is None]

    def known_part(self, prompt: str) -> str:
        """What is encoded: `prompt`, without weights and without the words and marks outside a small vocabulary; of a
        word that it has in another form ("cubes"), that form. A placeholder becomes its tokens.
        """
        return self._known_text(without_weights(prompt))

    def _known_text(self, text: str) -> str:
        parts = self._parts(text)
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

    def token_weights(self, prompts: list[str]) -> Float[Tensor, "b n"] | None:
        """How much each of `token_ids` counts; None where all count alike, which is 1."""
        parts = [parts_of(prompt) for prompt in prompts]
        if all(part.weight == 1 for parts_of_one in parts for part in parts_of_one):
            return None
        weights = torch.ones(len(prompts), self.max_length)
        for row, parts_of_one in zip(weights, parts, strict=True):
            at = 1  # after the start token
            for part in parts_of_one:
                count = len(self.tokenizer(self._known_text(part.text), add_special_tokens=False)["input_ids"])
                row[at : min(at + count, self.max_length - 1)] = part.weight
                at += count
        return weights


def weighted(states: Float[Tensor, "b n d"], weights: Float[Tensor, "b n"] | None) -> Float[Tensor, "b n d"]:
    """States of tokens times their weights; the mean of a prompt's numbers stays what it was, as in AUTOMATIC1111's
    web interface, whose prompts are written so."""
    if weights is None:
        return states
    scaled = states * weights.to(states)[..., None]
    return scaled * (states.mean(dim=(1, 2), keepdim=True) / scaled.mean(dim=(1, 2), keepdim=True))


def _pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """Finds whole words, in capitals too, the longest first; None for no words."""
    longest = sorted(words, key=len, reverse=True)
    if not longest:
        return None
    ends = [("(?<!\\w)" * w[0].isalnum(), re.escape(w), "(?!\\w)" * w[-1].isalnum()) for w in longest]
    return re.compile(f"({'|'.join(map(''.join, ends))})", re.IGNORECASE)
