"""A CLIP tokenizer learned from captions: byte-level sub-words (Sennrich et al. 2016), so that no word is impossible.

A *piece* is what a prompt is read in: a word, a digit or a mark. Every piece of the captions becomes one token while
the vocabulary has room, since small text transformers learn whole words best; beyond that, frequent parts do. Pieces
that no caption had are spelled from bytes.

What training saw is kept in `tokenizer_config.json` as `words`, the most frequent first: a token that looks like a
word may be a mere ending ("one" in "cone"), and a rare word may be several tokens.
"""

from __future__ import annotations

import heapq
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from shared.errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
SHORTEST = 3  # start, one word, end
ROOM = 8  # tokens beyond those of the longest caption, for prompts that say more than one does
LONGEST = 77  # CLIP's own limit
SMALL_VOCABULARY = 8192  # of a tokenizer without a list of words; CLIP itself has 49,408 tokens
# Letters of scripts that put no space between words, each a word: Thai, Lao, Burmese, Khmer, kana, Han.
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)  # fmt: skip
Pair = tuple[str, str]


def pieces(text: str) -> list[str]:
    """`text` in lower case as words, single digits and single marks, accents with the letter that they belong to.

    Joined with spaces, they are tokens of their own to CLIP's splitting too.
    """
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
    found: list[str] = []
    spaced = True
    in_word = False
    for character in unicodedata.normalize("NFC", text).lower():
        kind = unicodedata.category(character)[0]
        if character.isspace():
            in_word = False
        elif found and kind == "M" and not spaced:
            found[-1] += character
        elif kind == "L" and not _unspaced(character):
            if in_word:
                found[-1] += character
            else:
                found.append(character)
            in_word = True
        else:
            found.append(character)
            in_word = False
        spaced = character.isspace()
    return found


def _unspaced(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in UNSPACED)


def is_word(piece: str) -> bool:
    """Whether a piece says something: letters, a digit or a picture, rather than a mark between words."""
    return piece[0].isalnum() or unicodedata.category(piece[0]) == "So"


def count_words(captions: Iterable[str]) -> dict[str, int]:
    """How often each piece occurs, the most frequent first, equals in the order of their first occurrence."""
    counts = Counter(chain.from_iterable(map(pieces, captions)))
    return dict(counts.most_common())


def known_words(tokenizer: CLIPTokenizer) -> list[str] | None:
    """The words that training saw; None for a full vocabulary, which spells any.

    A small vocabulary without a list (not one of ours) knows the words that are tokens.
    """
    stored = tokenizer.init_kwargs.get("words")
    if stored is not None:
        return list(stored)
    if len(tokenizer) >= SMALL_VOCABULARY:
        return None
    ids = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [token[: -len(END_OF_WORD)] for token, _ in ids if token.endswith(END_OF_WORD)]


def learn_tokenizer(captions: Sequence[str], *, size: int = 8192, max_length: int | None = None) -> CLIPTokenizer:
    """A stock `CLIPTokenizer` for `captions`, of at most `size` tokens; equal captions give an equal one.

    max_length: tokens of a prompt, the start and the end token included; that of the longest caption and `ROOM` more
    where not given. Raises InputError where captions hold no word, and for a `max_length` below 3.
    """
    singles = sorted(ByteLevel.alphabet())
    tokens = [*singles, *(single + END_OF_WORD for single in singles), START, END]
    bare = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], words=[])
    return extend_tokenizer(bare, captions, size=size, max_length=max_length)


def extend_tokenizer(
    tokenizer: CLIPTokenizer, captions: Sequence[str], *, size: int = 8192, max_length: int | None = None
) -> CLIPTokenizer:
    """`tokenizer` with the words of `captions` besides its own: its tokens keep their ids, new ones follow.

    max_length: as in `learn_tokenizer`, and never less than it was where not given. Raises InputError as that does. A
    full vocabulary comes back as it is.
    """
    before = known_words(tokenizer)
    if before is None:
        return tokenizer
    if max_length is not None and max_length < SHORTEST:
        raise InputError("tokenizer length", expected=f"at least {SHORTEST} (start, one word, end)", got=max_length)
    counts = count_words(captions)
    kept = list(dict.fromkeys([*before, *counts]))
    if not kept:
        raise InputError("vocabulary", expected="at least one word in the captions", got="none")
    vocabulary, merges = tokenizer.get_vocab(), _merges(tokenizer)
    for pair in _new_merges(
        tokenizer, counts, {pair: rank for rank, pair in enumerate(merges)}, size - len(vocabulary)
    ):
        merges.append(pair)
        vocabulary.setdefault("".join(pair), len(vocabulary))
    extended = CLIPTokenizer(vocab=vocabulary, merges=merges, words=kept, model_max_length=LONGEST)
    if max_length is None:
        max_length = min(LONGEST, longest(extended, captions) + ROOM)
        if before:
            max_length = max(max_length, tokenizer.model_max_length)
    extended.model_max_length = extended.init_kwargs["model_max_length"] = max_length
    return extended


def longest(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> int:
    """Tokens of the longest caption, the start and the end token included; 2 where there is none."""
    distinct = list(dict.fromkeys(" ".join(pieces(caption)) for caption in captions))
    return max((len(ids) for ids in tokenizer(distinct)["input_ids"]), default=2) if distinct else 2


def _merges(tokenizer: CLIPTokenizer) -> list[Pair]:
    return [tuple(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]


def _new_merges(tokenizer: CLIPTokenizer, counts: dict[str, int], known: dict[Pair, int], room: int) -> Iterator[Pair]:
    """Merges to put after the `known` ones, each of the pair that is then most frequent; at most `room`.

    A known merge that a new one makes possible is applied at once, as the tokenizer will.
    """
    backend = tokenizer.backend_tokenizer
    weights: Counter[str] = Counter()
    for piece, count in counts.items():
        for part, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(piece)):
            weights[part] += count
    words = [[token.value for token in backend.model.tokenize(part)] for part in weights]
    weight = list(weights.values())
    totals: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)

    def add(index: int, sign: int) -> None:
        for pair in pairwise(words[index]):
            totals[pair] += sign * weight[index]
            (places[pair].add if sign > 0 else places[pair].discard)(index)

    def entry(pair: Pair) -> tuple[int, int, Pair]:
        return (0, known[pair], pair) if pair in known else (1, -totals[pair], pair)

    for index in range(len(words)):
        add(index, +1)
    queue = [entry(pair) for pair in totals]
    heapq.heapify(queue)
    while queue and room > 0:
        first = heapq.heappop(queue)
        pair = first[2]
        if totals[pair] == 0 or first != entry(pair):
            continue  # what was counted when it was put there is no longer so
        if pair not in known:
            yield pair
            known[pair] = len(known)
            room -= 1
        touched = sorted(places[pair])
        changed = set()
        for index in touched:
            changed |= set(pairwise(words[index]))
            add(index, -1)
            words[index] = _merged(words[index], pair)
            add(index, +1)
            changed |= set(pairwise(words[index]))
        for other in changed:
            if totals[other]:
                heapq.heappush(queue, entry(other))


def _merged(symbols: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
