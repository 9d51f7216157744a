"""Pictures guided by a CLIP: they are more like their prompts to it; what took part is recorded."""

import numpy as np
import pytest
import torch

from lab.main import main
from shared.artifacts.files import sha256
from shared.artifacts.run_record import read_record
from shared.errors import InputError, ModelError
from shared.images.generate import generate_images
from shared.images.recipe import ImageRecipe
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import load_image_model
from shared.models.weight_files import weight_hashes
from tests.lab.command import is_refusal
from tests.tiny import build_image_folder
from tests.tiny_clip import build_clip, build_image_encoder
from tests.tiny_open_clip import build_open_clip

SHORT = {"prompt": "a red cube", "steps": 4, "guidance_scale": 1.0}
PROMPTS = ["a red cube", "a blue ball", "a green cube"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = build_image_folder(tmp_path_factory.mktemp("scored") / "model")
    build_image_encoder(path)
    return path


def made(folder, **changes):
    recipe = ImageRecipe.parse({**SHORT, "model": str(folder), **changes})
    *_, last = generate_images(load_image_model(folder), PROMPTS, [0, 1, 2], recipe)
    return last.images


def likeness(folder, images):
    scorer = ClipScorer.from_folder(folder)
    return [scorer.score(image[None], prompt) for image, prompt in zip(images, PROMPTS, strict=True)]


def test_pictures_are_more_like_their_prompts_to_whom_they_are_guided_by(folder, tmp_path):
    others = build_clip(tmp_path / "clip"), tmp_path / "open_clip"
    build_open_clip(others[1])
    plain = made(folder)
    for where, asked in ((folder, {}), *((clip, {"clip_model": str(clip)}) for clip in others)):
        before, after = likeness(where, plain), likeness(where, made(folder, clip_guidance=50.0, **asked))
        assert all(after > before for before, after in zip(before, after, strict=True)), (before, after)
    assert (made(folder, clip_guidance=0.0) == plain).all()


def test_by_the_command(folder, tmp_path, capsys):
    """The encoder that guides is in the record; the same again, alone or with others, to the byte."""
    flags = ["--model", str(folder), "--steps", "3", "--device", "cpu"]
    one, plain = tmp_path / "a.png", tmp_path / "plain.png"
    assert main(["image", "a red cube", *flags, "--clip-guidance", "50", "-o", str(one)]) == 0
    assert main(["image", "a red cube", *flags, "-o", str(plain)]) == 0
    encoder = {name for name in weight_hashes(folder) if name.startswith("image_encoder/")}
    assert encoder
    assert encoder <= read_record(one).model.hashes.keys()
    assert not encoder & read_record(plain).model.hashes.keys()
    several = tmp_path / "several"
    assert main(["image", "a red cube", *flags, "--clip-guidance", "50", "--count", "2", "-o", f"{several}/"]) == 0
    assert one.read_bytes() in {file.read_bytes() for file in several.glob("*.png")}
    assert main(["rerun", str(one), "-o", str(tmp_path / "again.png"), "--device", "cpu"]) == 0
    assert (tmp_path / "again.png").read_bytes() == one.read_bytes()


@pytest.mark.parametrize("build", [build_clip, build_open_clip])
def test_a_clip_of_its_own_is_an_input(folder, tmp_path, build):
    clip = tmp_path / "clip"
    build(clip)
    asked = ["image", "a red cube", "--model", str(folder), "--steps", "2", "--device", "cpu", "--clip-guidance", "50"]
    assert main([*asked, "--clip-model", str(clip), "-o", str(tmp_path / "a.png")]) == 0
    record = read_record(tmp_path / "a.png")
    weights = next(clip.glob("*.safetensors"))
    assert record.inputs == {"clip_model": sha256(weights)}
    assert not any(name.startswith("image_encoder") for name in record.model.hashes)


def test_what_cannot_guide_is_one_line(folder, tmp_path, capsys, monkeypatch):
    bare = build_image_folder(tmp_path / "bare")
    capsys.readouterr()
    code = main(["image", "a cube", "--model", str(bare), "--clip-guidance", "9", "-o", str(tmp_path / "a.png")])
    assert is_refusal(code, capsys.readouterr().err, "image_encoder", "--clip-model FOLDER")
    with pytest.raises(InputError, match="clip_guidance beside scorer"):
        ImageRecipe.parse({**SHORT, "scorer": "clip"})
    with pytest.raises(ModelError, match="a CLIP of transformers"):
        made(folder, clip_guidance=9.0, clip_model=str(folder / "unet"))

    class Blind:
        def __init__(self, model):
            pass

        def score(self, frames, prompt):
            return 0.0

    monkeypatch.setattr("shared.images.scored.load", lambda group, name: Blind)
    recipe = ImageRecipe.model_construct(**{**dict(ImageRecipe.parse(SHORT)), "clip_guidance": 9.0, "scorer": "blind"})
    with pytest.raises(InputError, match="clip-guidance with scorer blind: expected one with similarity"):
        list(generate_images(load_image_model(folder), PROMPTS, [0, 1, 2], recipe))


def test_the_steps_that_guidance_leaves_out(folder):
    late = made(folder, clip_guidance=50.0, guidance_start=0.9)
    assert not np.array_equal(late, made(folder, clip_guidance=50.0))
    assert torch.is_grad_enabled()
