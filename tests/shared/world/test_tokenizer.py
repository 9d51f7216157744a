import pytest
from transformers import CLIPTokenizer

from shared.errors import InputError
from shared.world.tokenizer import build_tokenizer

# "one", "all" and "on" are endings or beginnings of other words: left-to-right merges would break on them.
WORDS = [
    "a",
    "red",
    "cube",
    "one",
    "cone",
    "all",
    "ball",
    "on",
    "top",
    "of",
    ",",
    "snowman",
    "man",
    "car",
    "scar",
    "moving",
    "left",
    "Blue",
    "view",
]


def tokens(tokenizer, prompt):
    return tokenizer.convert_ids_to_tokens(tokenizer(prompt)["input_ids"])[1:-1]


def test_every_word_is_one_token_alone_and_in_a_sentence():
    tokenizer = build_tokenizer(WORDS)
    for word in WORDS:
        assert tokens(tokenizer, word) == [word.lower() + "</w>"]
    assert tokens(tokenizer, " ".join(WORDS)) == [word.lower() + "</w>" for word in WORDS]


def test_case_spaces_and_commas_do_not_matter():
    tokenizer = build_tokenizer(WORDS)
    assert tokens(tokenizer, "A  RED cube,blue  ball") == [
        "a</w>",
        "red</w>",
        "cube</w>",
        ",</w>",
        "blue</w>",
        "ball</w>",
    ]


def test_other_words_fall_back_to_pieces_and_never_to_the_unknown_token():
    tokenizer = build_tokenizer(WORDS)
    for prompt in ("purple", "9", "x-wing", "café", "日本", "🦆", "coneball"):
        pieces = tokens(tokenizer, prompt)
        assert pieces
        assert "<|endoftext|>" not in pieces
        assert not set(pieces) & {word + "</w>" for word in ("cone", "cube", "red")}
    assert tokens(tokenizer, "cubes") == ["c", "u", "b", "e", "s</w>"]


def test_start_end_and_padding_are_those_of_clip():
    tokenizer = build_tokenizer(WORDS, max_length=8)
    start, end = tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"])
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (start, end, end)
    red = tokenizer.convert_tokens_to_ids("red</w>")
    assert tokenizer("red", padding="max_length")["input_ids"] == [start, red] + [end] * 6
    assert tokenizer("red " * 40, truncation=True)["input_ids"] == [start] + [red] * 6 + [end]


def test_a_saved_tokenizer_reads_back_the_same(tmp_path):
    tokenizer = build_tokenizer(WORDS)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.model_max_length == 24
    assert again.init_kwargs["words"] == [word.lower() for word in WORDS]
    for prompt in ("a red cube, on top of one snowman", "purple scars", ""):
        assert again(prompt)["input_ids"] == tokenizer(prompt)["input_ids"]


def test_bad_vocabularies_are_refused():
    for words, max_length in (([], 24), (["two words"], 24), (["x1"], 24), ([""], 24), (["red"], 2)):
        with pytest.raises(InputError):
            build_tokenizer(words, max_length)
