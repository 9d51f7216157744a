"""Folders that the package open_clip writes, read without it, against the package: features, all architectures."""

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.push_to_hf_hub import save_for_hf
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from shared.errors import ModelError
from shared.models.clip_scorer import ClipScorer
from shared.models.layouts.clip_vocabulary import clip_tokenizer
from shared.models.layouts.family import SD1
from shared.models.layouts.original_names import open_clip_names
from shared.models.layouts.single_file import placed
from shared.models.open_clip import CONFIG, WEIGHTS, OpenClip
from shared.models.weight_files import Entry
from shared.models.weights import matched
from tests.tolerances import close

SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 16, "layers": 2, "mlp_ratio": 4.3637},
    "text_cfg": {"width": 32, "heads": 2, "layers": 2},
}
PROMPTS = ["a red cube", "A Photo of naïve ducks, next to 7 blue balls!", "", "so many words " * 40]
MODELS = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))


def written(folder: Path, quick_gelu: bool, **preprocess) -> Path:
    """A small model as the package itself writes it, with every weight drawn, and the words of CLIP."""
    config = {**SMALL, "quick_gelu": quick_gelu}
    torch.manual_seed(int(quick_gelu))
    model = open_clip.CLIP(**config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    visual = {**open_clip.transform.PreprocessCfg(size=32).__dict__, **preprocess}
    open_clip.model.set_model_preprocess_cfg(model, visual)
    save_for_hf(model, clip_tokenizer(folder / WEIGHTS[0], SD1), config, str(folder), safe_serialization=True)
    return folder


@pytest.mark.parametrize(
    ("quick_gelu", "preprocess"),
    [
        (False, {}),
        (True, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}),
        (True, {"resize_mode": "squash", "interpolation": "bilinear"}),
    ],
)
def test_features_are_the_packages(tmp_path, quick_gelu, preprocess):
    folder = written(tmp_path / "model", quick_gelu, **preprocess)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    scorer = ClipScorer.from_folder(folder)
    for size in ((32, 32), (96, 96), (64, 48), (40, 200)):
        frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        pictures = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        with torch.no_grad():
            expected = model.encode_image(pictures, normalize=True)
        torch.testing.assert_close(scorer.image_features(frames), expected, rtol=0, atol=1e-5)
    for tokenizer in (open_clip.get_tokenizer(f"local-dir:{folder}"), open_clip.get_tokenizer("ViT-B-32")):
        with torch.no_grad():
            expected = model.encode_text(tokenizer(PROMPTS), normalize=True)
        torch.testing.assert_close(scorer.conditioner.features(PROMPTS), expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        shown = torch.rand(1, 3, 32, 32) * 2 - 1
        mean, std = (torch.tensor(model.visual.preprocess_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
        logits, _ = model.get_logits(((shown + 1) / 2 - mean) / std, tokenizer(PROMPTS[:1]))
    likeness = logits.flatten() / model.logit_scale.exp()
    torch.testing.assert_close(scorer.similarity(shown, PROMPTS[:1]), likeness, **close(torch.float32))


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_read_as_it_is_or_refused(tmp_path, name):
    """All its names and shapes have their places, and none is left; or one line names what is not read."""
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": MODELS[name]}))
    (tmp_path / WEIGHTS[0]).touch()
    if not name.startswith("ViT-") or any(word in name for word in ("SigLIP", "CLIPA", "worldwide", "M-16-alt")):
        with pytest.raises(ModelError, match="expected a vision transformer") as refusal:
            OpenClip.read(tmp_path)
        assert "\n" not in str(refusal.value)
        return
    with torch.device("meta"):
        theirs = open_clip.CLIP(**MODELS[name])
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    entries = {name: Entry("F32", shape, 0, 4 * math.prod(shape)) for name, shape in shapes.items()}
    places = ((stored, rows) for stored in entries for rows in open_clip_names(stored))
    found = OpenClip.read(tmp_path)
    ours, _ = matched(lambda: CLIPModel(CLIPConfig(**found.config)), placed(found.file, entries, places), found.file)
    blocks = [tower.resblocks[0] for tower in (theirs.visual.transformer, theirs.transformer)]
    towers = (ours.config.vision_config, ours.config.text_config)
    assert [block.attn.num_heads for block in blocks] == [tower.num_attention_heads for tower in towers]
