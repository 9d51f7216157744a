"""Words learned by textual inversion (Gal et al. 2022): each is one or more new tokens, with their embeddings.

A file holds, for each word, its vectors "n d" or one vector "d" (diffusers), or one tensor `emb_params` of a word that
the file's name says (AUTOMATIC1111). A word of n vectors is written in prompts once, and read as n tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from tokenizers import AddedToken
from torch import Tensor, nn

from shared.errors import InputError, ModelError
from shared.models.adapters.recipe import checked_header
from shared.models.prompts.text import TextConditioner
from shared.models.prompts.vocabulary import END_OF_WORD
from shared.models.weights import check_finite

UNNAMED = "emb_params"


def with_embeddings(model: str, text: TextConditioner, files: Sequence[str]) -> TextConditioner:
    """The text side with the words of `files` besides its own. model: its name, for messages.

    Raises ModelError for a file that is a pickle, cut short, not finite, of vectors of another width than the model's,
    or with a word that the model has already.
    """
    width = text.text_encoder.config.hidden_size
    if files and len(text.encoders) > 1:
        raise ModelError(
            f"embedding {files[0]}", expected="a model with one text encoder", got=f"{model}, with two",
            hint="Words for two encoders are not read yet; a LoRA is",
        )  # fmt: skip
    for file in map(Path, files):
        for word, vectors in read_embeddings(file).items():
            if vectors.ndim != 2 or vectors.shape[1] != width:
                raise ModelError(
                    f"embedding {word!r} in {file}",
                    expected=f"vectors of {width} numbers, as model {model} has",
                    got=f"shape {tuple(vectors.shape)}",
                    hint="It was made for another text encoder",
                )
            try:
                text = with_word(text, word, vectors)
            except InputError as error:
                raise ModelError(f"embedding {file}: {error.what}", expected=error.expected, got=error.got) from error
    return text


def read_embeddings(file: Path) -> dict[str, Float[Tensor, "n d"]]:
    """The words of a file with their vectors, in float32. Raises ModelError as `with_embeddings` does of files."""
    header = checked_header(file)
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name).float() for name in header}
    if not tensors or any(tensor.ndim not in (1, 2) or not tensor.numel() for tensor in tensors.values()):
        got = next((f"{name} of shape {tuple(t.shape)}" for name, t in tensors.items()), "no tensor")
        raise ModelError(f"embedding {file}", expected="a word's vectors, n x d", got=got)
    check_finite(tensors, file)
    return {file.stem if name == UNNAMED else name: torch.atleast_2d(t) for name, t in tensors.items()}


def with_word(text: TextConditioner, word: str, vectors: Float[Tensor, "n d"]) -> TextConditioner:
    """A text side that knows one word more, in place: its tokenizer and text encoder are those of `text`.

    Raises InputError for a word that is known, or none.
    """
    taken = word in text.placeholders or not text.unknown_words(word) if text.vocabulary() else in_full(text, word)
    if taken or not word.strip() or word != " ".join(word.split()):
        raise InputError(f"word {word!r}", expected="a word that the model does not have", got="one that it has")
    tokens = [word if not i else f"{word}_{i}" for i in range(len(vectors))]
    before = len(text.tokenizer)
    text.tokenizer.add_tokens([AddedToken(token, single_word=True, normalized=False) for token in tokens])
    if len(text.tokenizer) != before + len(tokens):
        raise InputError(f"word {word!r}", expected="tokens that the model does not have", got=tokens)
    old = text.text_encoder.get_input_embeddings().weight
    rows = torch.cat([old[:before], vectors.to(old), old[before + len(tokens) :]])
    text.text_encoder.set_input_embeddings(nn.Embedding.from_pretrained(rows, freeze=not old.requires_grad))
    text.text_encoder.config.vocab_size = len(rows)
    return TextConditioner(text.tokenizer, text.text_encoder, {**text.placeholders, word: tokens})


def in_full(text: TextConditioner, word: str) -> bool:
    """Whether a full vocabulary has a word as one token."""
    known: Mapping[str, int] = text.tokenizer.get_vocab()
    return word in text.placeholders or word in known or word.lower() + END_OF_WORD in known
