"""A vocabulary learned from captions: whole words, every script, and nothing that cannot be said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from shared.errors import InputError
from shared.models.prompts.vocabulary import count_words, extend_tokenizer, is_word, learn_tokenizer, longest, pieces

# "one", "all" and "on" are endings or beginnings of other words.
SENTENCE = "a red cube one cone all ball on top of , snowman man car scar moving left Blue view"
WORDS = SENTENCE.split(" ")


def tokens(tokenizer, prompt):
    return tokenizer.convert_ids_to_tokens(tokenizer(prompt)["input_ids"])[1:-1]


def whole(prompt):
    return [piece + "</w>" for piece in prompt.lower().split()]


def test_every_word_is_one_token_alone_and_in_a_sentence():
    tokenizer = learn_tokenizer([SENTENCE])
    for word in WORDS:
        assert tokens(tokenizer, word) == whole(word)
    assert tokens(tokenizer, SENTENCE) == whole(SENTENCE)


@given(st.lists(st.text("abcd", min_size=1, max_size=9), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_words_become_whole(words):
    tokenizer = learn_tokenizer([" ".join(words)], max_length=77)
    assert [tokens(tokenizer, word) for word in words] == [[word + "</w>"] for word in words]


def test_words_of_any_script_digits_marks_and_pictures_are_pieces():
    assert pieces("A café's 42 Cats, x_b") == ["a", "café", "'", "s", "4", "2", "cats", ",", "x", "_", "b"]
    assert pieces("e\u0301tude") == ["étude"]
    assert pieces("हिन्दी 一只猫 ไทยดี") == ["हिन्दी", "一", "只", "猫", "ไ", "ท", "ย", "ดี"]
    assert pieces("❤\ufe0f🦆...\n\ud83d") == ["❤\ufe0f", "🦆", ".", ".", ".", "?"]
    assert [is_word(piece) for piece in ("a", "4", "猫", "🦆", ",", "_", "'")] == [True] * 4 + [False] * 3


def test_captions_of_any_script_are_read_in_their_pieces():
    captions = ["Straße nach München 7", "一只猫 🦆", "гора и море", "it's a cat's life"]
    tokenizer = learn_tokenizer(captions)
    for caption in captions:
        assert tokens(tokenizer, " ".join(pieces(caption))) == [
            token for piece in pieces(caption) for token in tokens(tokenizer, piece)
        ]
        assert len(tokens(tokenizer, " ".join(pieces(caption)))) == len(pieces(caption))


def test_other_words_are_spelled_and_never_the_unknown_token():
    tokenizer = learn_tokenizer([SENTENCE])
    for prompt in ("purple", "9", "x-wing", "café", "日本", "🦆", "coneball"):
        spelled = tokens(tokenizer, prompt)
        assert spelled
        assert "<|endoftext|>" not in spelled
        assert not set(spelled) & {word + "</w>" for word in ("cone", "cube", "red")}


def test_beyond_the_limit_rare_words_are_several_tokens_and_frequent_ones_stay_whole():
    captions = ["zebra zebra zebra", "walrus heron ibis marmot tapir okapi"]
    tokenizer = learn_tokenizer(captions, size=514 + 6)
    assert len(tokenizer) == 520
    assert tokens(tokenizer, "zebra") == ["zebra</w>"]
    assert len(tokens(tokenizer, "marmot")) > 1
    assert "marmot" in tokenizer.init_kwargs["words"]


def test_words_are_counted_the_most_frequent_first():
    assert list(count_words(["a cat", "A dog, a cat"]).items()) == [("a", 3), ("cat", 2), ("dog", 1), (",", 1)]


def test_equal_captions_give_an_equal_tokenizer():
    first, second = (learn_tokenizer([SENTENCE, "zebra crossing"]) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_prompts_have_room_for_the_longest_caption_and_some_more():
    captions = ["a cat", "a dog on a mat"]
    assert longest(learn_tokenizer(captions), captions) == 7
    assert learn_tokenizer(captions).model_max_length == 7 + 8
    assert learn_tokenizer(["word " * 200]).model_max_length == 77
    assert learn_tokenizer(captions, max_length=5).model_max_length == 5


def test_more_words_keep_the_ids_of_those_before():
    before = learn_tokenizer([SENTENCE])
    after = extend_tokenizer(before, ["a striped zebra", "cubes on a scarf"])
    assert before.get_vocab().items() <= after.get_vocab().items()
    assert tokens(after, SENTENCE) == whole(SENTENCE)
    assert tokens(after, "striped zebra cubes scarf") == whole("striped zebra cubes scarf")
    assert after.init_kwargs["words"] == [*before.init_kwargs["words"], "striped", "zebra", "cubes", "scarf"]
    assert after.model_max_length == before.model_max_length


def test_a_full_vocabulary_needs_no_more_words():
    full = CLIPTokenizer(
        vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"t{i}</w>": i for i in range(2, 9000)}}, merges=[]
    )
    assert extend_tokenizer(full, ["a zebra"]) is full


def test_start_end_and_padding_are_those_of_clip():
    tokenizer = learn_tokenizer([SENTENCE], max_length=8)
    start, end = tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"])
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (start, end, end)
    red = tokenizer.convert_tokens_to_ids("red</w>")
    assert tokenizer("red", padding="max_length")["input_ids"] == [start, red] + [end] * 6
    assert tokenizer("red " * 40, truncation=True)["input_ids"] == [start] + [red] * 6 + [end]


def test_a_saved_tokenizer_reads_back_the_same(tmp_path):
    tokenizer = extend_tokenizer(learn_tokenizer([SENTENCE]), ["une étoile 🦆"])
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.model_max_length == tokenizer.model_max_length
    assert again.init_kwargs["words"] == tokenizer.init_kwargs["words"]
    for prompt in ("a red cube, on top of one snowman", "purple scars", "étoile 🦆", ""):
        assert again(prompt)["input_ids"] == tokenizer(prompt)["input_ids"]


def test_no_words_and_no_room_are_refused():
    for captions, max_length in (([], 24), (["", "  "], 24), (["red"], 2)):
        with pytest.raises(InputError):
            learn_tokenizer(captions, max_length=max_length)
