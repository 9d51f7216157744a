import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from shared.models.prompts.text import TextConditioner
from tests.near import near
from tests.tiny import WORDS, tiny_scheduler, tiny_text, tiny_unet, tiny_vae


@pytest.fixture(scope="module")
def text():
    return TextConditioner(*tiny_text())


def test_equals_the_stock_pipeline(text):
    pipeline = StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=text.text_encoder,
        tokenizer=text.tokenizer,
        unet=tiny_unet(),
        scheduler=tiny_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    prompts = ["a red cube", "a blue ball, moving left " * 4]
    with torch.no_grad():
        wanted, wanted_negative = pipeline.encode_prompt(prompts, "cpu", 1, True, ["", "a green cone"])
        near(text.encode(prompts), wanted)
        near(text.encode(["", "a green cone"]), wanted_negative)


def test_each_prompt_stands_alone(text):
    prompts = ["a red cube", "", "a blue ball on top of a cone, side view"]
    with torch.no_grad():
        together = text.encode(prompts)
        for index, prompt in enumerate(prompts):
            near(together[index : index + 1], text.encode([prompt]))
    assert together.shape == (3, text.max_length, 32)
    assert (together[0] - together[2]).abs().max() > 0.1


def test_unknown_words_are_named_and_dropped(text):
    prompt = "A Purple cube, on a shiny TABLE & a purple x-ray ball!"
    assert text.unknown_words(prompt) == ["purple", "shiny", "table", "x", "ray"]
    assert text.known_part(prompt) == "a cube , on a a ball"
    assert text.unknown_words("a red cube, side view") == []
    with torch.no_grad():
        near(text.encode([prompt]), text.encode(["a cube, on a a ball"]))
        near(text.encode(["purple tables"]), text.encode([""]))
        near(text.encode(["日本 🦆 ... !"]), text.encode([""]))


def test_endings_of_words_are_no_words(text):
    # a token (a part of "spinning" and "moving"), and not a word of the vocabulary
    assert "ing</w>" in text.tokenizer.get_vocab()
    assert text.unknown_words("ing cone") == ["ing"]


def test_vocabulary_is_the_list_it_was_built_from(text):
    assert text.vocabulary() == list(dict.fromkeys(WORDS))


def test_a_small_vocabulary_without_a_stored_list_is_read_from_its_tokens(text):
    ends = ["a</w>", "red</w>", "cube</w>"]
    tokens = ["<|startoftext|>", "<|endoftext|>", *"acdeu", *ends]
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    conditioner = TextConditioner(tokenizer, text.text_encoder)
    assert conditioner.vocabulary() == ["a", "red", "cube"]
    assert conditioner.unknown_words("a blue cube") == ["blue"]


def test_a_full_vocabulary_knows_every_word(text):
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"t{i}</w>": i for i in range(2, 9000)}}
    conditioner = TextConditioner(CLIPTokenizer(vocab=vocab, merges=[]), text.text_encoder)
    assert conditioner.unknown_words("anything goes") == []
    assert conditioner.vocabulary() == []
    assert conditioner.known_part("Anything  goes!") == "Anything  goes!"


def test_prompts_beyond_the_limit_are_counted(text):
    assert text.max_length == 16
    assert text.excess_tokens("red " * 14) == 0
    assert text.excess_tokens("red " * 20) == 6
    assert text.excess_tokens("purple " * 20) == 0
