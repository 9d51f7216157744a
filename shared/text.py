"""Prompts to the text conditioning of a denoiser.

A full CLIP vocabulary spells any word. The embedded model's tokenizer knows only the words it was trained on
(`shared.world.tokenizer`); other words are dropped before encoding and can be asked for with `unknown_words`.
"""

from __future__ import annotations

import re

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from shared.execution import execution_device

PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")  # letters, a digit, a punctuation mark: CLIP's own splitting
SMALL_VOCABULARY = 8192  # CLIP itself has 49,408 tokens


class TextConditioner:
    """A CLIP tokenizer and text encoder, used as in stock Stable Diffusion: last hidden state, padded to the limit."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self._words = _word_list(tokenizer)

    @property
    def max_length(self) -> int:
        """Tokens of a prompt, the start and the end token included."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """One conditioning a prompt, in float32, where the text encoder computes; n is `max_length`. The empty prompt
        is the unconditional one."""
        ids = self._ids([self.known_part(prompt) for prompt in prompts])
        return self.text_encoder(ids.to(execution_device(self.text_encoder))).last_hidden_state.float()

    @torch.no_grad()
    def features(self, prompts: list[str]) -> Float[Tensor, "b d"]:
        """CLIP's features of prompts: the encoder's state at the end token, unit length."""
        ids = self._ids([self.known_part(prompt) for prompt in prompts])
        return normalize(self.text_encoder(ids.to(execution_device(self.text_encoder))).pooler_output.float(), dim=-1)

    def vocabulary(self) -> list[str]:
        """The words of a small vocabulary, in the order given; [] for a full one."""
        return list(self._words or [])

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` outside a small vocabulary, in order, each once; [] for a full vocabulary."""
        if self._words is None:
            return []
        words = [piece for piece in PIECE.findall(prompt.lower()) if piece.isalnum()]
        return [word for word in dict.fromkeys(words) if word not in self._words]

    def known_part(self, prompt: str) -> str:
        """What is encoded: `prompt`, without the words and marks outside a small vocabulary."""
        if self._words is None:
            return prompt
        return " ".join(piece for piece in PIECE.findall(prompt.lower()) if piece in self._words)

    def excess_tokens(self, prompt: str) -> int:
        """How many tokens at the end of `prompt` do not fit into `max_length` and are left out."""
        return max(0, len(self.tokenizer(self.known_part(prompt))["input_ids"]) - self.max_length)

    def _ids(self, prompts: list[str]) -> Tensor:
        return self.tokenizer(
            prompts, padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt"
        )["input_ids"].to(torch.long)


def _word_list(tokenizer: CLIPTokenizer) -> dict[str, None] | None:
    """The words of a small vocabulary as an ordered set; None for a full one.

    `build_tokenizer` stores the list. For another small vocabulary it is every token that ends a word.
    """
    stored = tokenizer.init_kwargs.get("words")
    if stored:
        return dict.fromkeys(stored)
    if len(tokenizer) >= SMALL_VOCABULARY:
        return None
    ids = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {token[: -len("</w>")]: None for token, _ in ids if token.endswith("</w>")}
