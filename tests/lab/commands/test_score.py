"""`kinoform score` against the scorer itself."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from lab.main import main
from shared.artifacts.media import TAG, read_clip, write_clip, write_image
from shared.artifacts.run_record import RunRecord
from shared.errors import ModelError
from shared.models.clip_scorer import ClipScorer
from shared.training.clip_scorer import build, save_image_encoder
from shared.training.recipe import ScorerTrainRecipe
from tests.lab.command import is_refusal
from tests.tiny import build_image_folder, tiny_text
from tests.tiny_open_clip import build_open_clip


@pytest.fixture(scope="module")
def scorer_folder(tmp_path_factory):
    path = build_image_folder(tmp_path_factory.mktemp("scorer"))
    torch.manual_seed(0)
    encoder = build(ScorerTrainRecipe(image_width=32, image_layers=1), image_size=32, embedding=32)
    save_image_encoder(path / "image_encoder", encoder)
    return path


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_the_score_of_a_clip(scorer_folder, frames, tmp_path, capsys, name):
    file = tmp_path / name
    write_clip(file, frames, 8)
    arguments = ["score", str(file), "--prompt", "a red cube", "--model", str(scorer_folder)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = ClipScorer.from_folder(scorer_folder).score(read_clip(file).frames, "a red cube")
    assert result["score"] == pytest.approx(expected, abs=1e-6)
    assert main(arguments) == 0
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)


def test_the_score_of_a_picture(scorer_folder, frames, tmp_path, capsys):
    file = tmp_path / "picture.png"
    write_image(file, frames[0])
    assert main(["score", str(file), "--prompt", "a red cube", "--model", str(scorer_folder)]) == 0
    expected = ClipScorer.from_folder(scorer_folder).score(frames[:1], "a red cube")
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)


def test_a_model_without_an_image_encoder_is_one_line(model, frames, tmp_path, capsys):
    file = tmp_path / "picture.png"
    write_image(file, frames[0])
    code = main(["score", str(file), "--prompt", "a red cube", "--model", str(model)])
    assert is_refusal(code, capsys.readouterr().err, "image_encoder")


def made(file, frames, prompt):
    """A picture that says what it was made from."""
    record = RunRecord.of_run("image", {"prompt": prompt, "model": "tiny", "seed": 0}, 0, "tiny", {}, {})
    write_image(file, frames, {TAG: record.to_json()})


def test_files_are_scored_against_what_they_were_made_from(scorer_folder, frames, tmp_path, capsys):
    prompts = ["a red cube", "a blue ball", "a green chair"]
    files = [str(tmp_path / f"{index}.png") for index in range(3)]
    for file, picture, prompt in zip(files, frames, prompts, strict=True):
        made(file, picture, prompt)
    (tmp_path / "more.txt").write_text("a white duck\na red cube\n")
    arguments = ["score", *files, "--model", str(scorer_folder), "--among", str(tmp_path / "more.txt")]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    scorer = ClipScorer.from_folder(scorer_folder)
    captions = [*prompts, "a white duck"]
    expected = np.array([[scorer.score(frame[None], caption) for caption in captions] for frame in frames])
    own = expected[range(3), range(3)]
    assert [row["score"] for row in result["results"]] == pytest.approx(list(own), abs=1e-5)
    ranks = 1 + (expected > own[:, None]).sum(axis=1)
    assert [row["rank"] for row in result["results"]] == list(ranks)
    assert result["r_precision"] == pytest.approx((ranks == 1).mean())
    assert (result["captions"], result["chance"]) == (4, 0.25)


def test_a_file_that_does_not_say_what_it_is_of_needs_a_prompt(scorer_folder, frames, tmp_path, capsys):
    write_image(tmp_path / "plain.png", frames[0])
    code = main(["score", str(tmp_path / "plain.png"), "--model", str(scorer_folder)])
    assert is_refusal(code, capsys.readouterr().err, "record")


@pytest.fixture(scope="module")
def stock_clip(tmp_path_factory):
    """transformers' CLIPModel, as it saves itself."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer, text = tiny_text()
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {key: value for key, value in text.config.to_dict().items() if key not in ("dtype", "architectures")}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**words, "projection_dim": 16},
        vision_config={**tower, "image_size": 32, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def test_a_clip_of_transformers_scores_as_transformers_does(stock_clip, frames):
    scorer = ClipScorer.from_folder(stock_clip)
    stock = CLIPModel.from_pretrained(stock_clip).eval()
    prompts = ["a red cube", "a blue ball"]
    pixels = CLIPImageProcessorPil.from_pretrained(stock_clip)(list(frames), return_tensors="pt").pixel_values
    with torch.no_grad():
        read = stock(input_ids=scorer.conditioner.token_ids(prompts), pixel_values=pixels)
        expected = (read.logits_per_image / stock.logit_scale.exp()).mean(dim=0)
    torch.testing.assert_close(scorer.scores(frames, prompts), expected, rtol=1e-4, atol=1e-5)


def test_an_open_clip_model_in_the_cache_scores(frames, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--someone--tiny-open-clip"
    snapshot = place / "snapshots" / ("0" * 40)
    build_open_clip(snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    prompts, files = ["a red cube", "a blue ball"], [str(tmp_path / f"{index}.png") for index in range(2)]
    for file, picture, prompt in zip(files, frames, prompts, strict=False):
        made(file, picture, prompt)
    assert main(["score", *files, "--model", "someone/tiny-open-clip", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    scorer = ClipScorer.from_folder(snapshot)
    expected = np.array([[scorer.score(frame[None], prompt) for prompt in prompts] for frame in frames[:2]])
    assert [row["score"] for row in result["results"]] == pytest.approx(list(expected.diagonal()), abs=1e-6)
    assert result["r_precision"] == np.mean(expected.argmax(axis=1) == [0, 1])


def test_another_model_of_transformers_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="expected a CLIP of transformers or open_clip, got bert"):
        ClipScorer.from_folder(tmp_path)
