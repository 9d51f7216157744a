"""How well frames fit a prompt: mean cosine similarity of CLIP features (CLIPSIM, Wu et al. 2021, section 4.2).

The encoders are those of one of our model folders, or a CLIP of transformers or open_clip.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import init_empty_weights
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.image_utils import PILImageResampling

from shared.attention import install_attention
from shared.compute.execution import execution_device
from shared.errors import InputError, ModelError
from shared.models.image_model import load_text
from shared.models.layouts.clip_vocabulary import clip_tokenizer
from shared.models.layouts.family import SD1
from shared.models.layouts.original_names import open_clip_names
from shared.models.layouts.single_file import placed
from shared.models.open_clip import OpenClip, is_open_clip
from shared.models.prompts.text import TOKENIZER_FILES, TextConditioner, read_tokenizer
from shared.models.weight_files import read_entries, read_json
from shared.models.weights import fill, load_network

BATCH = 64  # frames in one call of the image encoder


class ClipScorer:
    """A text encoder and the image encoder that was trained to agree with it."""

    def __init__(
        self,
        conditioner: TextConditioner,
        image_encoder: CLIPVisionModelWithProjection,
        processor: CLIPImageProcessorPil,
    ) -> None:
        self.conditioner = conditioner
        self.image_encoder = image_encoder
        self.processor = processor

    @classmethod
    def from_folder(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> ClipScorer:
        """From the components `tokenizer`, `text_encoder` and `image_encoder` of a model folder, or from a folder of
        transformers' CLIPModel or open_clip's (`shared.models.open_clip`).

        Raises ModelError for one that is missing, or when the two encoders' features differ in width.
        """
        folder = Path(folder)
        if is_open_clip(folder):
            return cls._of_open_clip(folder, device)
        if (folder / "config.json").is_file():
            return cls._of_transformers(folder, device)
        for name in ("tokenizer", "text_encoder", "image_encoder"):
            if not (folder / name).is_dir():
                raise ModelError("score", expected=f"{name} in {folder}", got="none")
        place = folder / "image_encoder"
        text, config = load_text(folder, device=device), read_json(place / "config.json")
        build = partial(CLIPVisionModelWithProjection, CLIPVisionConfig.from_dict(config))
        image = load_network(build, place, device=device, dtype=torch.float32)
        install_attention(image)
        width, projected = text.text_encoder.config.hidden_size, image.config.projection_dim
        if width != projected:
            raise ModelError("score", expected=f"an image encoder of {width} features, as the text's", got=projected)
        return cls(text, image, _processor(place))

    @classmethod
    def _of_transformers(cls, folder: Path, device: str | torch.device) -> ClipScorer:
        config = read_json(folder / "config.json")
        if config.get("model_type") != "clip":
            got = config.get("model_type", "none")
            raise ModelError(f"model {folder}", expected="a CLIP of transformers or open_clip", got=got)
        whole = load_network(
            partial(CLIPModel, CLIPConfig.from_dict(config)), folder, device=device, dtype=torch.float32
        )
        return cls._of_whole(whole, read_tokenizer(folder), _processor(folder))

    @classmethod
    def _of_open_clip(cls, folder: Path, device: str | torch.device) -> ClipScorer:
        found = OpenClip.read(folder)
        beside = any((folder / name).is_file() for name in TOKENIZER_FILES)
        tokenizer = read_tokenizer(folder) if beside else clip_tokenizer(found.file, SD1)
        text = found.config["text_config"]
        tokenizer.model_max_length = text["max_position_embeddings"]
        if tokenizer.eos_token_id != text["vocab_size"] - 1:  # open_clip takes the state at the greatest token
            expected = f"{text['vocab_size']} tokens, the last of which ends a text"
            raise ModelError(f"tokenizer for {folder}", expected=expected, got=f"{tokenizer.eos_token_id} for the end")
        special = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = CLIPConfig(**{**found.config, "text_config": {**text, **special}})
        entries, _ = read_entries(found.file)
        places = ((stored, rows) for stored in entries for rows in open_clip_names(stored))
        tensors = placed(found.file, entries, places)
        whole = fill(partial(CLIPModel, config), tensors, found.file, device=device, dtype=torch.float32)
        return cls._of_whole(whole, tokenizer, CLIPImageProcessorPil(**found.processor))

    @classmethod
    def _of_whole(cls, whole: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessorPil) -> ClipScorer:
        # Its two halves, under the names that they have alone.
        with init_empty_weights():
            text = CLIPTextModelWithProjection(whole.config.text_config)
            image = CLIPVisionModelWithProjection(whole.config.vision_config)
        text.text_model, text.text_projection = whole.text_model, whole.text_projection
        image.vision_model, image.visual_projection = whole.vision_model, whole.visual_projection
        for half in (text, image):
            install_attention(half.eval())
        return cls(TextConditioner(tokenizer, text), image, processor)

    @torch.no_grad()
    def image_features(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[Tensor, "t d"]:
        """Unit features of each frame, cropped to the middle square and resized as the image encoder wants."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
            raise InputError("frames", expected="uint8 of shape t x h x w x 3", got=f"{frames.dtype} {frames.shape}")
        features = []
        for start in range(0, len(frames), BATCH):
            pixels = self.processor(list(frames[start : start + BATCH]), return_tensors="pt").pixel_values
            features.append(
                self.image_encoder(pixels.to(execution_device(self.image_encoder))).image_embeds.float().cpu()
            )
        return F.normalize(torch.cat(features), dim=-1)

    def similarity(self, pixels: Float[Tensor, "b 3 h w"], prompts: list[str]) -> Float[Tensor, " b"]:
        """The cosine similarity of each picture, in [-1, 1], with its prompt; differentiable.

        Pictures are resized by torch's bicubic or bilinear filter, which is within a level of 255 of Pillow's.
        """
        side = self.image_encoder.config.image_size
        squashed = self.processor.size.shortest_edge is None
        size = [side if squashed else length * side // min(pixels.shape[-2:]) for length in pixels.shape[-2:]]
        if size != list(pixels.shape[-2:]):
            mode = "bilinear" if self.processor.resample == PILImageResampling.BILINEAR else "bicubic"
            pixels = F.interpolate(pixels, size, mode=mode, antialias=True)
        top, left = ((length - side) // 2 for length in size)
        middle = (pixels[..., top : top + side, left : left + side].clamp(-1, 1) + 1) / 2
        mean, std = (
            torch.tensor(each).view(3, 1, 1).to(middle)
            for each in (self.processor.image_mean, self.processor.image_std)
        )
        device = execution_device(self.image_encoder)
        seen = self.image_encoder(((middle - mean) / std).to(device)).image_embeds.float()
        told = self.conditioner.features(prompts).to(seen)
        return F.cosine_similarity(seen, told, dim=-1).to(pixels.device)

    def score(self, frames: UInt8[np.ndarray, "t h w 3"], prompt: str) -> float:
        """Mean cosine similarity of the frames with the prompt, in [-1, 1]."""
        return float(self.scores(frames, [prompt])[0])

    def scores(self, frames: UInt8[np.ndarray, "t h w 3"], prompts: list[str]) -> Float[Tensor, " n"]:
        """That of each prompt."""
        return (self.image_features(frames) @ self.conditioner.features(prompts).cpu().T).mean(dim=0)


def _processor(folder: Path) -> CLIPImageProcessorPil:
    try:
        return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"preprocessing in {folder}", expected="that of CLIP", got=str(error)) from error
