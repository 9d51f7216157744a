"""Prompts to the text conditioning of a denoiser.

A full CLIP vocabulary spells any word. A small one, such as the embedded model's, knows the words that it was trained
on (`shared.models.vocabulary`); other words are dropped before encoding and can be asked for with `unknown_words`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from shared.compute.execution import execution_device
from shared.errors import ModelError
from shared.models.vocabulary import is_word, known_words, pieces
from shared.models.words import fold


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The CLIP tokenizer in a folder. Raises ModelError where there is none, or a broken one."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):  # the library would make one up
        raise ModelError(f"tokenizer in {folder}", expected="tokenizer.json or vocab.json", got="none of the two")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the libraries below raise whatever a broken file makes them stumble over
        raise ModelError(f"tokenizer in {folder}", expected="a CLIP tokenizer", got=str(error)) from error


class TextConditioner:
    """A CLIP tokenizer and text encoder, used as in stock Stable Diffusion: last hidden state, padded to the limit."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
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
        return list(self._words or [])

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` of which a small vocabulary has no form, in order, each once; [] for a full vocabulary."""
        if self._words is None:
            return []
        words = filter(is_word, pieces(prompt))
        return [word for word in dict.fromkeys(words) if self._known(word) is None]

    def known_part(self, prompt: str) -> str:
        """What is encoded: `prompt`, without the words and marks outside a small vocabulary; of a word that it has in
        another form ("cubes"), that form.
        """
        if self._words is None:
            return prompt
        return " ".join(filter(None, map(self._known, pieces(prompt))))

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
