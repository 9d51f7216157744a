"""A CLIP tokenizer whose vocabulary is a list of whole words.

The stock `CLIPTokenizer` is a byte-level BPE. Written over bytes, a word is `c u b e</w>`: only its last symbol carries
the end-of-word mark. `build_tokenizer` merges from that end (`b e</w>`, `u be</w>`, `c ube</w>`), so at any moment just
one pair can merge and the words cannot disturb one another: every listed word becomes one token. Other words
fall back to single bytes and a known ending, so nothing is ever the unknown token.

The word list is kept in `tokenizer_config.json` as `words`, since a token that looks like a word may be a mere ending
("one" in "cone").
"""

import re

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from shared.errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
ONE_PIECE = re.compile(
    r"[^\W\d_]+|\d|[^\w\s]+"
)  # what CLIP's own splitting keeps together: letters, a digit, punctuation


def build_tokenizer(words: list[str], max_length: int = 24) -> CLIPTokenizer:
    """A stock `CLIPTokenizer` in which each of `words` is one token.

    Words are lower-cased and may repeat; a word is a run of letters, a single digit, or punctuation such as a comma.
    Token ids: 256 bytes, 256 bytes ending a word, the inner endings, the words, start, end. Padding is the end token.
    `max_length` counts the start and the end token.

    Raises `InputError` for an empty list, a word that CLIP would split, or `max_length` below 3.
    """
    if max_length < 3:
        raise InputError("tokenizer length", expected="at least 3 (start, one word, end)", got=max_length)
    kept = list(dict.fromkeys(word.lower() for word in words))
    if not kept:
        raise InputError("vocabulary", expected="at least one word", got=words)
    byte_level = ByteLevel(add_prefix_space=False, use_regex=False)
    tokens: dict[str, None] = {}  # ordered sets
    merges: dict[tuple[str, str], None] = {}
    for word in kept:
        if not ONE_PIECE.fullmatch(word):
            raise InputError("vocabulary word", expected="letters only, one digit, or punctuation", got=word)
        symbols = byte_level.pre_tokenize_str(word)[0][0]
        for start in range(len(symbols) - 2, -1, -1):
            merges[(symbols[start], symbols[start + 1 :] + END_OF_WORD)] = None
            tokens[symbols[start:] + END_OF_WORD] = None
    whole = {byte_level.pre_tokenize_str(word)[0][0] + END_OF_WORD for word in kept}
    singles = sorted(ByteLevel.alphabet())
    singles += [single + END_OF_WORD for single in singles]
    endings = [token for token in tokens if token not in whole]
    listed = [token for token in tokens if token in whole]
    vocabulary = {token: index for index, token in enumerate([*singles, *endings, *listed, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=max_length, words=kept)
