"""The tiny pipelines by their class: how each is built, what is asked of it, and what it must refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusers import DiffusionPipeline

from tests.shared.models.pipelines.tiny import clips, images, others
from tests.tiny_given import depth_pipeline, upscaler_pipeline

PROMPT = "a red cube"
STEPS = {"steps": 3}
OWN_STEPS = {"num_inference_steps": 3}
GUIDED = {"guidance_scale": 3.0}


@dataclass(frozen=True)
class Tiny:
    """kind: "image" or "clip". recipe: keys for a short run. own: what the class itself is called with for the same,
    prompt, seed and picture aside; written by hand, so that the two say each other whether they are right.
    wrong: keys of values that it cannot make, with the nearest that it can. picture, prompt: whether it wants one.
    libraries: of parts, where published folders name others than this diffusers does.
    """

    build: Callable[[], DiffusionPipeline]
    kind: str
    recipe: Mapping[str, Any]
    own: Mapping[str, Any]
    wrong: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    picture: bool = False
    prompt: bool = True
    libraries: Mapping[str, str] = field(default_factory=dict)


def _image(build: Any, side: int, nearest: int, **changes: Any) -> Tiny:
    """A square picture. nearest: to side + 1, of the sides that the class makes."""
    size = {"width": side, "height": side}
    made = {
        "recipe": {**STEPS, **GUIDED, **size, **changes.pop("recipe", {})},
        "own": {**OWN_STEPS, **GUIDED, **size, **changes.pop("own", {})},
        "wrong": {"width": (side + 1, nearest)},
    }
    return Tiny(build, "image", **{**made, **changes})


def _clip(
    build: Any, side: int, frames: int, wrong_frames: tuple[int, int] | None, nearest: int, **changes: Any
) -> Tiny:
    size = {"width": side, "height": side}
    wrong = {"width": (side + 1, nearest)} | ({"frames": wrong_frames} if wrong_frames else {})
    made = {
        "recipe": {**STEPS, **GUIDED, **size, "frames": frames, **changes.pop("recipe", {})},
        "own": {**OWN_STEPS, **GUIDED, **size, "num_frames": frames, **changes.pop("own", {})},
        "wrong": wrong,
    }
    return Tiny(build, "clip", **{**made, **changes})


ASKED = {"pipeline_class": "StableDiffusionPipeline"}  # else the core runs it


def _asked(build: Any, name: str) -> Tiny:
    """One that takes a picture and makes one of a size that follows from it; the core runs it unless asked."""
    return Tiny(build, "image", {**STEPS, **GUIDED, "pipeline_class": name}, {**OWN_STEPS, **GUIDED}, picture=True)


TRUE = {"true_cfg_scale": 3.0, "negative_prompt": ""}  # it is not guided without one
TINY: dict[str, Tiny] = {
    "StableDiffusionPipeline": _image(images.stable_diffusion, 32, 32, recipe=ASKED),
    "StableDiffusionPipeline (2)": _image(images.stable_diffusion_2, 32, 32, recipe=ASKED),
    "StableDiffusionXLPipeline": _image(images.stable_diffusion_xl, 32, 32),
    "StableDiffusion3Pipeline": _image(images.stable_diffusion_3, 32, 32),
    "FluxPipeline": _image(images.flux, 32, 32),
    "ChromaPipeline": _image(images.chroma, 32, 32),
    "PixArtAlphaPipeline": _image(images.pixart_alpha, 256, 256),
    "PixArtSigmaPipeline": _image(images.pixart_sigma, 256, 256),
    "SanaPipeline": _image(images.sana, 512, 512),
    "Lumina2Pipeline": _image(images.lumina_2, 32, 32),
    "AuraFlowPipeline": _image(images.aura_flow, 32, 32),
    "QwenImagePipeline": _image(images.qwen_image, 32, 32, own={"guidance_scale": None, **TRUE}),
    "LatentConsistencyModelPipeline": _image(images.latent_consistency, 32, 32),
    "StableDiffusionDepth2ImgPipeline": _asked(depth_pipeline, "StableDiffusionDepth2ImgPipeline"),
    "StableDiffusionUpscalePipeline": _asked(upscaler_pipeline, "StableDiffusionUpscalePipeline"),
    "IFPipeline": _image(others.deep_floyd, 32, 32),
    "UnCLIPPipeline": Tiny(
        others.unclip, "image", {**STEPS, **GUIDED}, {"decoder_num_inference_steps": 3, "decoder_guidance_scale": 3.0},
        libraries={"text_proj": "unclip"},
    ),
    "KandinskyV22CombinedPipeline": _image(others.kandinsky_2_2, 32, 32),
    "Kandinsky3Pipeline": _image(others.kandinsky_3, 64, 64),
    "AnimateDiffPipeline": _clip(clips.animate_diff, 32, 3, (33, 32), 32),
    "AnimateDiffSDXLPipeline": _clip(clips.animate_diff_xl, 32, 3, (33, 32), 32),
    "StableVideoDiffusionPipeline": _clip(
        clips.stable_video_diffusion, 32, 3, None, 32, picture=True, prompt=False,
        own={"max_guidance_scale": 3.0, "guidance_scale": None},
    ),
    "WanPipeline": _clip(clips.wan, 32, 5, (6, 5), 32),
    "WanImageToVideoPipeline": _clip(clips.wan_image, 32, 5, (6, 5), 32, picture=True),
    "LTXPipeline": _clip(clips.ltx, 32, 9, (10, 9), 32),
    "LTXImageToVideoPipeline": _clip(
        clips.ltx_image, 32, 9, (10, 9), 32, picture=True
    ),
    "CogVideoXImageToVideoPipeline": _clip(clips.cogvideox_image, 16, 9, (10, 9), 16, picture=True),
    "CogVideoXPipeline": _clip(clips.cogvideox, 16, 9, (10, 9), 16),
    "HunyuanVideoPipeline": _clip(clips.hunyuan_video, 16, 9, (10, 9), 16),
    "MochiPipeline": _clip(clips.mochi, 16, 7, (8, 7), 16),
    "LattePipeline": _clip(clips.latte, 16, 4, (5, 4), 16, own={"num_frames": None, "video_length": 4}),
    "AllegroPipeline": _clip(clips.allegro, 128, 24, (25, 24), 128, recipe={"decode": "tiled"}),
    "TextToVideoSDPipeline": _clip(clips.text_to_video, 32, 3, None, 32),
}  # fmt: skip
