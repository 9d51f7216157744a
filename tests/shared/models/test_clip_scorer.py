"""CLIP score against transformers called by hand."""

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from shared.artifacts.pixels import from_uint8
from shared.errors import InputError, ModelError
from shared.models.clip_scorer import ClipScorer
from shared.training.clip_scorer import build, save_image_encoder
from shared.training.recipe import ScorerTrainRecipe
from tests.tiny import build_image_folder
from tests.tolerances import close

RECIPE = ScorerTrainRecipe(image_width=32, image_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = build_image_folder(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    save_image_encoder(path / "image_encoder", build(RECIPE, image_size=32, embedding=32))
    return path


def test_score_is_the_mean_cosine(folder):
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    image = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").float()
    text = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    ids = CLIPTokenizer.from_pretrained(folder / "tokenizer")(["a red cube"], return_tensors="pt").input_ids
    with torch.no_grad():
        prompt = text(ids).pooler_output[0]
        features = image(torch.tensor(frames).permute(0, 3, 1, 2) / 127.5 - 1).image_embeds
    expected = np.mean([float(F.cosine_similarity(f, prompt, dim=0)) for f in features])
    assert ClipScorer.from_folder(folder).score(frames, "a red cube") == pytest.approx(expected, abs=1e-4)


def test_frames_count_one_by_one_whatever_their_number(folder):
    scorer = ClipScorer.from_folder(folder)
    frames = np.random.default_rng(1).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    together = scorer.image_features(frames)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(70), **close(torch.float32))
    torch.testing.assert_close(together[66:67], scorer.image_features(frames[66:67]), **close(torch.float32))


def test_other_sizes_are_resized_as_pillow_does(folder):
    scorer = ClipScorer.from_folder(folder)
    large = np.random.default_rng(2).integers(0, 256, (1, 96, 128, 3), dtype=np.uint8)
    resized = Image.fromarray(large[0]).resize((42, 32), Image.Resampling.BICUBIC)
    middle = np.asarray(resized)[None, :, 5:37]
    torch.testing.assert_close(scorer.image_features(large), scorer.image_features(middle), **close(torch.float32))


def test_unknown_words_do_not_change_the_features(folder):
    scorer = ClipScorer.from_folder(folder)
    known, more = scorer.conditioner.features(["a red cube"]), scorer.conditioner.features(["a wonderful red Cube!"])
    torch.testing.assert_close(known, more)
    assert not torch.allclose(known, scorer.conditioner.features(["a blue cube"]))


def test_no_frames_are_an_input_error(folder):
    with pytest.raises(InputError, match="frames"):
        ClipScorer.from_folder(folder).image_features(np.zeros((0, 8, 8, 3), np.uint8))


def test_missing_or_unfitting_encoders_are_model_errors(tmp_path):
    path = build_image_folder(tmp_path / "model")
    with pytest.raises(ModelError, match="image_encoder"):
        ClipScorer.from_folder(path)
    save_image_encoder(path / "image_encoder", build(RECIPE, image_size=32, embedding=16))
    with pytest.raises(ModelError, match="32 features"):
        ClipScorer.from_folder(path)


def test_an_offloaded_scorer_scores_the_same(folder):
    frames = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    scorer = ClipScorer.from_folder(folder)
    wanted = scorer.score(frames, "a red cube")
    for network in (scorer.image_encoder, scorer.conditioner.text_encoder):
        cpu_offload(network, execution_device=torch.device("cpu"))
    assert scorer.score(frames, "a red cube") == pytest.approx(wanted, abs=1e-6)


def test_the_similarity_that_has_a_gradient_is_the_score(folder):
    """At the encoder's own size to rounding, at others within what another bicubic filter makes of the pixels."""
    scorer = ClipScorer.from_folder(folder)
    draw = np.random.default_rng(4)
    frames = draw.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    large = draw.integers(0, 256, (2, 12, 16, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    prompts = ["a red cube", "a blue cube"]
    for shown, off in ((frames, 1e-5), (large, 2e-3)):
        pixels = from_uint8(shown).requires_grad_()
        got = scorer.similarity(pixels, prompts)
        wanted = [scorer.score(shown[i : i + 1], prompt) for i, prompt in enumerate(prompts)]
        torch.testing.assert_close(got.detach(), torch.tensor(wanted), rtol=0, atol=off)
        (gradient,) = torch.autograd.grad(got[0], pixels)
        assert gradient[0].abs().max() > 0
        assert gradient[1].abs().max() == 0
        with torch.no_grad():  # it is the way up
            step = 1e-3 * gradient[:1] / gradient.norm()
            rise = scorer.similarity(pixels[:1] + step, prompts[:1]) - scorer.similarity(pixels[:1] - step, prompts[:1])
        assert float(rise) == pytest.approx(2e-3 * float(gradient.norm()), rel=0.1)
