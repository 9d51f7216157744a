"""Which pictures a step sees, and what they are called."""

import torch

from shared.models.image_model import load_image_model
from shared.rng import generator
from shared.training.personalise.examples import Examples, read_examples


def test_every_picture_comes_once_before_any_comes_again():
    examples = Examples(torch.arange(5.0).reshape(5, 1, 1, 1), list("abcde"))
    seen = [examples.draw(3, number, 0, 1) for number in range(10)]
    order = "".join(text for batch in seen for text in batch.captions)
    assert all(sorted(order[i : i + 5]) == list("abcde") for i in range(0, 30, 5))
    assert len({order[i : i + 5] for i in range(0, 30, 5)}) > 1
    assert all(batch.latents.flatten().tolist() == ["abcde".index(c) for c in batch.captions] for batch in seen)
    assert examples.draw(3, 4, 0, 1).captions == seen[4].captions
    assert any(examples.draw(3, n, 1, 1).captions != seen[n].captions for n in range(10))


def test_captions_are_left_out_in_the_share_asked_for():
    examples = Examples(torch.zeros(1000, 1, 1, 1), ["a"] * 1000)
    assert 60 < examples.without_some_captions(0.1, generator(0)).captions.count("") < 140
    assert examples.without_some_captions(0.0, generator(0)).captions == ["a"] * 1000


def test_pictures_keep_the_captions_that_they_have(model, pictures, tmp_path):
    for file in pictures.glob("*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "1.txt").write_text("a zork from the side")
    codec = load_image_model(model).codec
    read = read_examples(tmp_path, codec, 64, "a zork")
    assert sorted(read.captions) == ["a zork"] * 4 + ["a zork from the side"]
    assert read.latents.shape == (5, 4, 16, 16)
