import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode

from shared.artifacts.files import sha256
from shared.errors import ModelError
from shared.models.layouts import clip_vocabulary
from shared.models.layouts.clip_vocabulary import clip_tokenizer, tokenizer_of
from shared.models.layouts.family import SD1, SD2

MERGES = ["c u", "b e</w>", "cu be</w>", "r e", "re d</w>", "Ã ¼"]


def slow_ids(word: str) -> list[int]:
    """Byte pair encoding (Sennrich et al. 2016) by its definition: the earliest merge that applies, again and again."""
    letters = [bytes_to_unicode()[byte] for byte in word.encode()]
    pieces = [*letters[:-1], f"{letters[-1]}</w>"]
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(MERGES)}
    while True:
        pairs = [(ranks[pair], n) for n, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not pairs:
            break
        _, n = min(pairs)
        pieces[n : n + 2] = ["".join(pieces[n : n + 2])]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in MERGES)]
    return [tokens.index(piece) for piece in pieces]


def test_words_are_spelled_by_their_merges():
    tokenizer = tokenizer_of(MERGES)
    assert len(tokenizer) == 512 + len(MERGES) + 2
    for word in ("cube", "red", "reed", "curd", "über", "東京", "x"):
        assert tokenizer(word)["input_ids"] == [len(tokenizer) - 2, *slow_ids(word), len(tokenizer) - 1]
    assert tokenizer("A Red  CUBE")["input_ids"][2:-1] == [*slow_ids("red"), *slow_ids("cube")]
    assert tokenizer.model_max_length == 77


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a vocabulary in it, on the path, and an empty cache."""
    folder = tmp_path / "site" / "open_clip"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('code that is not needed')")
    lines = ["a first line that says what it is", *MERGES, "more than there are"]
    file = folder / clip_vocabulary.MERGES
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.setattr(clip_vocabulary, "LAST_MERGE", len(MERGES))
    monkeypatch.setattr(clip_vocabulary, "MERGES_SHA256", sha256(file))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return file


def test_a_package_gives_the_words(package, tmp_path):
    for family, pad in ((SD1, "<|endoftext|>"), (SD2, "!")):
        tokenizer = clip_tokenizer(tmp_path / "a.safetensors", family)
        assert tokenizer.get_vocab() == tokenizer_of(MERGES).get_vocab()
        assert tokenizer.pad_token == pad


def test_another_vocabulary_is_not_taken(package: Path, tmp_path):
    package.write_bytes(gzip.compress(b"others"))
    with pytest.raises(ModelError, match="the vocabulary of CLIP"):
        clip_tokenizer(tmp_path / "a.safetensors", SD1)
