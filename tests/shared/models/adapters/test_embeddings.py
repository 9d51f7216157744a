"""Words from files: read as diffusers reads them, and known to a small vocabulary."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from shared.errors import ModelError
from shared.models.adapters.embeddings import with_embeddings
from shared.models.image_model import load_image_model
from shared.models.prompts.text import TextConditioner
from tests.shared.models.adapters.files import save
from tests.tiny import build_image_folder, tiny_text

WIDTH = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("model"))


def vectors(count, width=WIDTH):
    torch.manual_seed(3)
    return torch.randn(count, width)


@pytest.mark.parametrize("tensor", [vectors(1)[0], vectors(1), vectors(3)], ids=["d", "1 d", "3 d"])
def test_states_are_those_of_diffusers_for_a_learned_word(tensor, folder, tmp_path):
    file = save(tmp_path / "learned_embeds.safetensors", {"torcone": tensor})
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.load_textual_inversion(file)
    theirs = pipeline.encode_prompt("a torcone on top of a cube", "cpu", 1, False)[0]
    text = load_image_model(folder, embeddings=[file]).text
    ours = text.encode(["a Torcone on top of a cube"])
    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - text.encode(["a cube on top of a cube"])).abs().max() > 0.01


def test_a_small_vocabulary_knows_the_word_from_then_on(folder, tmp_path):
    file = save(tmp_path / "learned_embeds.safetensors", {"torcone": vectors(2)})
    assert load_image_model(folder).text.unknown_words("a torcone") == ["torcone"]
    text = load_image_model(folder, embeddings=[file]).text
    assert text.unknown_words("a torcone, a zork") == ["zork"]
    assert text.known_part("a  RED torcone, a zork") == "a red torcone torcone_1 , a"
    assert text.vocabulary()[0] == "torcone"
    assert text.known_part("torcones") == ""  # another word, of which it knows no form


def test_a_word_in_brackets_and_one_that_begins_another(folder, tmp_path):
    files = [save(tmp_path / f"{i}.safetensors", {word: vectors(2)}) for i, word in enumerate(("<my>", "<my> thing"))]
    text = load_image_model(folder, embeddings=files).text
    ids = text.token_ids(["a <my>", "a <my> thing", "a"])[:, :6].tolist()
    count = len(text.tokenizer)
    assert ids[0][2:4] == [count - 4, count - 3]
    assert ids[1][2:4] == [count - 2, count - 1]


def test_a_full_vocabulary_reads_prompts_as_diffusers_does(tmp_path):
    """Of one without a list of words nothing is dropped."""
    tokenizer, encoder = tiny_text()
    size = CLIPTokenizer(
        vocab={**tokenizer.get_vocab(), **{f"filler{i}</w>": len(tokenizer) + i for i in range(9000)}},
        merges=[], model_max_length=16,
    )  # fmt: skip
    encoder.resize_token_embeddings(len(size), mean_resizing=False)
    whole = TextConditioner(size, encoder)
    assert whole.vocabulary() == []
    file = save(tmp_path / "x.safetensors", {"<cat-toy>": vectors(2)})
    text = with_embeddings("x", whole, [file])
    stock = size("<cat-toy> <cat-toy>_1, on top", padding="max_length", max_length=16)["input_ids"]
    assert text.token_ids(["<cat-toy>, on top"])[0].tolist() == stock
    assert text.excess_tokens("<cat-toy> " * 8) == 2


def test_the_file_names_the_word_where_it_is_of_automatic1111(folder, tmp_path):
    file = save(tmp_path / "style-x.safetensors", {"emb_params": vectors(2)})
    assert list(load_image_model(folder, embeddings=[file]).text.placeholders) == ["style-x"]


@pytest.mark.parametrize(
    ("tensors", "part"),
    [
        ({"torcone": vectors(1, 64)}, "expected vectors of 32 numbers, as model {folder} has, got shape (1, 64)"),
        ({"clip_l": vectors(1), "clip_g": vectors(1, 64)}, "got shape (1, 64)"),
        ({"torcone": torch.full((1, WIDTH), torch.nan)}, "expected finite numbers"),
        ({"cube": vectors(1)}, "word 'cube': expected a word that the model does not have, got one that it has"),
        ({"torcone": torch.zeros(2, 2, WIDTH)}, "expected a word's vectors, n x d"),
    ],
)
def test_what_does_not_fit_is_refused(tensors, part, folder, tmp_path):
    with pytest.raises(ModelError) as error:
        load_image_model(folder, embeddings=[save(tmp_path / "e.safetensors", tensors)])
    assert part.format(folder=folder) in str(error.value)


def test_a_pickle_is_not_opened(folder, tmp_path):
    torch.save({"string_to_param": {"*": vectors(1)}}, tmp_path / "e.pt")
    with pytest.raises(ModelError, match="a pickle"):
        load_image_model(folder, embeddings=[str(tmp_path / "e.pt")])
