"""Folders in open_clip's layout against torch's own layers; `make test-open-clip` has the package."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from lab.main import main
from shared.artifacts.media import write_image
from shared.artifacts.pixels import from_uint8
from shared.errors import ModelError
from shared.models.clip_scorer import ClipScorer
from shared.models.open_clip import CONFIG, MEAN, STD, WEIGHTS, is_open_clip, weights_of
from tests.lab.command import is_refusal
from tests.tiny_clip import build_clip
from tests.tiny_open_clip import build_open_clip
from tests.tolerances import close

PROMPTS = ["a red cube", "a blue ball next to a duck"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("open_clip")
    build_open_clip(path)
    return path


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_features_are_those_of_its_networks(tmp_path, quick_gelu):
    model = build_open_clip(tmp_path, quick_gelu=quick_gelu)
    scorer = ClipScorer.from_folder(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    seen = F.normalize(model.visual((torch.tensor(frames).permute(0, 3, 1, 2) / 255 - mean) / std), dim=-1)
    told = F.normalize(model.text(scorer.conditioner.token_ids(PROMPTS)), dim=-1)
    torch.testing.assert_close(scorer.image_features(frames), seen, **close(torch.float32))
    torch.testing.assert_close(scorer.conditioner.features(PROMPTS), told, **close(torch.float32))
    torch.testing.assert_close(scorer.scores(frames, PROMPTS), (seen @ told.T).mean(0), **close(torch.float32))


def test_pictures_are_resized_as_its_configuration_says(folder, tmp_path):
    asked = {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    build_open_clip(tmp_path, **asked)
    scorer = ClipScorer.from_folder(tmp_path)
    draw = np.random.default_rng(2)
    frames = draw.integers(0, 256, (1, 8, 6, 3), dtype=np.uint8).repeat(6, 1).repeat(12, 2)
    small = np.asarray(Image.fromarray(frames[0]).resize((24, 24), Image.Resampling.BILINEAR))[None]
    torch.testing.assert_close(scorer.image_features(frames), scorer.image_features(small), **close(torch.float32))
    got = scorer.similarity(from_uint8(frames), PROMPTS[:1])
    assert float(got) == pytest.approx(scorer.score(frames, PROMPTS[0]), abs=2e-3)  # another filter's rounding
    assert float(got) != pytest.approx(
        float(ClipScorer.from_folder(folder).similarity(from_uint8(frames), PROMPTS[:1]))
    )


def test_a_folder_that_transformers_reads_as_well_stays_its(tmp_path):
    build_open_clip(tmp_path)
    build_clip(tmp_path)
    assert not is_open_clip(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # what the package leaves in the hub's cache
    assert is_open_clip(tmp_path)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("vision_cfg", {"timm_model_name": "convnext_base"}, "got timm_model_name convnext_base"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, r"got a ResNet of \[3, 4, 6, 3\] layers"),
        ("vision_cfg", {"pool_type": "avg"}, "got pool_type avg"),
        ("vision_cfg", {"width": "32"}, "vision_cfg width .* expected a whole number above 0"),
        ("vision_cfg", {"head_width": 33}, "heads of equal width"),
        ("vision_cfg", {"layers": 1}, "expected 46 tensors, got 16 left over"),
        ("vision_cfg", {"patch_size": 12}, "expected shape"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "got hf_model_name roberta-base"),
        ("text_cfg", {"vocab_size": 9}, "expected 9 tokens, the last of which ends a text"),
        ("text_cfg", {"mlp_ratio": 0}, "mlp_ratio"),
        ("model_cfg", {"multimodal_cfg": {"width": 8}}, "got multimodal_cfg"),
        ("model_cfg", {"embed_dim": None}, "embed_dim"),
        ("preprocess_cfg", {"resize_mode": "longest"}, "expected shortest or squash, got longest"),
        ("preprocess_cfg", {"std": [1, 0, 1]}, "preprocess_cfg std"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, part, changes, message):
    build_open_clip(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (config if part in config else config["model_cfg"])[part] |= changes
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message) as refusal:
        ClipScorer.from_folder(tmp_path)
    assert "\n" not in str(refusal.value)


def test_weights_are_whole_finite_and_no_pickle(tmp_path, capsys):
    build_open_clip(tmp_path)
    picture, file = tmp_path / "a.png", tmp_path / WEIGHTS[0]
    states = load_file(file)
    write_image(picture, np.zeros((24, 24, 3), np.uint8))
    arguments = ["score", str(picture), "--prompt", "a red cube", "--model", str(tmp_path)]
    states["visual.proj"][3, 4] = torch.nan
    save_file(states, file)
    assert is_refusal(main(arguments), capsys.readouterr().err, "visual_projection", "NaN or infinity")
    file.rename(tmp_path / WEIGHTS[1])
    assert weights_of(tmp_path).name == WEIGHTS[1]
    (tmp_path / WEIGHTS[1]).unlink()
    assert is_refusal(main(arguments), capsys.readouterr().err, WEIGHTS[0], "got none")
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert is_refusal(main(arguments), capsys.readouterr().err, "a pickle", "kinoform convert")
