"""Every key of every recipe changes what comes out, or its schema says why it does not (`shared.recipe.same_result`).

Two steps on tiny networks. What comes out are pixels, meshes and trained weights, and the loss after every step; what
merely repeats a recipe, such as a network's configuration, is not looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import shared.training.autoencoder
import shared.training.clip_scorer
import shared.training.image
import shared.training.personalise.stage
import video.training.lora
import video.training.stage
from dreamfusion.distill import distill
from dreamfusion.recipe import AssetRecipe
from lab.kinds.pipelines import load_pictures
from lab.kinds.view_teacher import views_of
from lab.session import load
from shared.artifacts.media import read_clip, write_clip, write_image
from shared.images.recipe import ImageRecipe
from shared.models.adapters.recipe import PARTS, adapters_of
from shared.models.pipelines.load import PipelineModel
from shared.models.pipelines.prior import prior_of
from shared.recipe import SAME_RESULT, Recipe
from shared.training.personalise.recipe import DreamboothTrainRecipe, LoraTrainRecipe, TextualInversionRecipe
from shared.training.recipe import AutoencoderTrainRecipe, ImageTrainRecipe, ScorerTrainRecipe
from tests.shared.models.adapters import files
from tests.shared.models.pipelines.tiny.clips import wan_2_2
from tests.shared.models.pipelines.tiny.images import stable_diffusion_3
from tests.tiny import COLOURS, build_image_folder, tiny_vae
from tests.tiny_clip import build_clip
from tests.tiny_given import build_depth_folder, build_upscaler_folder
from tests.video.motion.adapters import build_adapter
from tests.video.tiny import build_video_folder
from video.recipe import ClipRecipe, VideoLoraTrainRecipe, VideoTrainRecipe

Outcome = Mapping[str, np.ndarray]
ROUNDING = 2e-2  # of numbers around 1: in half precision, after two steps


@dataclass(frozen=True)
class Made:
    """A recipe, what its two-step runs have in common, and what each key is changed to. A change may need other keys
    at values of their own to mean anything; these are a dict beside it.
    """

    recipe: type[Recipe]
    base: Mapping[str, Any]
    changes: Mapping[str, Any]
    run: Callable[[Any, Any], Outcome]


def made_image(recipe: ImageRecipe, _folders: Any) -> Outcome:
    picture = load(recipe.model, device="cpu").image(**recipe.model_dump(exclude={"model"}))
    return {"pixels": picture.pixels}


def made_clip(recipe: ClipRecipe, _folders: Any) -> Outcome:
    clip = load(recipe.model, device="cpu").clip(**recipe.model_dump(exclude={"model"}))
    return {"frames": clip.frames, "fps": np.array(clip.fps)}


def distilled(recipe: AssetRecipe, _folders: Any) -> Outcome:
    model = load_pictures(recipe.model, device="cpu", dtype=torch.float32, **adapters_of(recipe))
    if isinstance(model, PipelineModel):
        states = list(distill(prior_of(model), recipe))
    else:
        states = list(distill(model, recipe, views=views_of(model)))
    weights = {name: tensor.numpy() for name, tensor in states[-1].scene.field.state_dict().items()}
    return {
        **weights,
        "gradients": np.array([state.gradient_rms for state in states]),
        "pixels": states[-1].pixels.numpy(),
    }


def made_asset(recipe: AssetRecipe, folders: Any) -> Outcome:
    asset = load(recipe.model, device="cpu").asset(**recipe.model_dump(exclude={"model"}))
    printed = asset.save(folders.new() / "printed.stl").read_bytes()
    turntable = asset.turntable()
    return {
        "vertices": np.asarray(asset.mesh.vertices),
        "faces": np.asarray(asset.mesh.faces),
        "printed": np.frombuffer(printed[80:], np.uint8),  # after the header
        "turntable": turntable.frames,
        "fps": np.array(turntable.fps),
    }


def trained(
    train: Callable[..., Any], prepare: Callable[[Any], object], data: str = "data"
) -> Callable[[Any, Any], Outcome]:
    """Losses and all weights of the folder that a stage leaves. prepare: puts there what the stage wants."""

    def run(recipe: Any, folders: Any) -> Outcome:
        out = folders.new()
        prepare(out)
        losses = np.array([state.loss for state in train(recipe, getattr(folders, data), out)])
        weights = {
            f"{file.relative_to(out)} {name}": tensor.float().numpy()
            for file in sorted(out.rglob("*.safetensors"))
            for name, tensor in load_file(file).items()
        }
        return {**weights, "losses": losses}

    return run


SAMPLED = {
    "prompt": "a blue ball",
    "negative": "a red cube",
    "steps": 3,
    "seed": 1,
    "guidance": "middle",
    "guidance_scale": 3.0,
    "guidance_rescale": 0.0,
    "guidance_start": 0.5,
    "guidance_stop": 0.5,
    "width": 32,
    "height": 32,
    "precision": "bf16",
    "channels_last": True,
    "lora": ["lora"],
    "embeddings": (["word"], {"prompt": "a zork"}),
    "vae": "other",
    "unet": "other",
    "decode": "sliced",
    "decode_frames": 1,
    "scheduler": "euler-ancestral-discrete",
}
ON_PICTURE = {"image": "picture"}
ON_WAN = {"model": "wan", "frames": 5, "width": 32, "height": 32}
STAGE = {
    "steps": 3,
    "batch_size": 3,
    "accumulate": 2,
    "learning_rate": 2e-2,
    "warmup_steps": 2,
    "ema_decay": 0.0,
    "weight_decay": 20.0,
    "optimizer": "muon",
    "seed": 1,
    "precision": "bf16",
    "checkpointing": True,
    "checkpoint_minutes": 1e-9,
}
PICTURES = {**STAGE, "size": 16, "clip_fraction": 1.0}
TRAINED = {"steps": 2, "batch_size": 2, "precision": "fp32", "warmup_steps": 1, "learning_rate": 1e-2}
ON_PICTURES = {**TRAINED, "size": 32, "clip_fraction": 0.0}

ASSET = {
    "steps": 2, "teacher": "image", "views": 1, "field_resolution": 12, "samples": 12, "coarse_render_size": 12,
    "render_size": 16, "coarse_share": 0.5, "mesh_resolution": 16, "turntable_frames": 2, "turntable_size": 16,
    "learning_rate": 0.05, "fit_steps": 3, "fit_views": 4, "fit_sampling_steps": 2, "fit_share": 0.5,
}  # fmt: skip
SEVERAL = {"teacher": "views"}
SHADED = {"albedo_first": 0.0, "lambertian_probability": 1.0}

MADE = {
    "image": Made(
        ImageRecipe,
        {"prompt": "a red cube", "steps": 2, "negative": "a ball", "guidance_rescale": 0.5},
        {
            **SAMPLED,
            "model": "other",
            "image": "picture",
            "strength": (1.0, ON_PICTURE),
            "mask": ("picture", ON_PICTURE),
            "extend": ("left=8", ON_PICTURE),
            "depth": ("picture", {"model": "deep", "image": "picture", "extend": "left=8"}),
            "noise_level": (300, {"model": "upscaler", "image": "picture"}),
            "pipeline_class": "StableDiffusionPipeline",
            "transformer": ("flowing", {"model": "flow"}),
            "clip_guidance": (500.0, {"clip_guidance": 50.0, "clip_model": "clip"}),
            "clip_model": ("another clip", {"clip_guidance": 50.0, "clip_model": "clip"}),
            "scorer": ("red", {"clip_guidance": 50.0, "clip_model": "clip"}),
        },
        made_image,
    ),
    "clip": Made(
        ClipRecipe,
        {"prompt": "a red cube", "steps": 2, "frames": 4, "negative": "a ball", "guidance_rescale": 0.5},
        {
            **SAMPLED,
            "model": "other",
            "pipeline_class": ("TextToVideoZeroPipeline", {"steps": 50}),  # it counts on as many
            "frames": 5,
            "window": 2,
            "fps": 9,
            "temporal_guidance_scale": 1.0,
            "image": "picture",
            "last": "picture",
            "motion_adapter": "adapter",
            "transformer": ("waning", ON_WAN),
            "transformer_2": ("waning", ON_WAN),
        },
        made_clip,
    ),
    "asset": Made(
        AssetRecipe,
        ASSET,
        {
            "prompt": "a blue ball",
            "negative": "a red cube",
            "model": "other",
            "seed": 1,
            "steps": 3,
            "teacher": "views",
            "guidance": ("middle", {"t_min": 0.9, "t_max_final": 0.98}),
            "guidance_scale": 3.0,
            "cfg_convention": "dreamfusion",
            "lora": ["lora"],
            "embeddings": (["word"], {"prompt": "a zork"}),
            "vae": "other",
            "unet": "other",
            "transformer": ("flowing", {"model": "flow"}),
            "guidance_rescale": 0.5,
            "views": 3,
            "overhead_probability": 1.0,
            "t_min": 0.4,
            "t_max": 0.5,
            "t_max_final": 0.05,
            "learning_rate": 0.02,
            "opacity_weight": 5.0,
            "orientation_weight": (5.0, SHADED),
            "albedo_first": (1.0, SHADED),
            "lambertian_probability": (0.0, {"albedo_first": 0.0}),
            "textureless_probability": (1.0, {"albedo_first": 0.0, "lambertian_probability": 0.0}),
            "background": "network",
            "view_guidance_scale": (3.0, SEVERAL),
            "noise": "inverted",
            "inversion_steps": (2, {"noise": "inverted"}),
            "inversion_guidance_scale": (1.0, {"noise": "inverted"}),
            "fit_steps": (4, SEVERAL),
            "fit_views": (5, SEVERAL),
            "fit_sampling_steps": (3, SEVERAL),
            "fit_guidance_scale": (8.0, SEVERAL),
            "fit_share": (0.0, SEVERAL),
            "field": "grid",
            "field_resolution": 16,
            "radius": 1.5,
            "samples": 24,
            "coarse_render_size": 16,
            "coarse_share": 1.0,
            "render_size": 24,
            "precision": "bf16",
            "channels_last": True,
            "checkpointing": True,
        },
        distilled,
    ),
    "finished asset": Made(
        AssetRecipe,
        ASSET,
        {
            "apart": (False, {"prompt": "a red cube on top of a blue ball"}),
            "mesh_resolution": 24,
            "mesh_faces": 20,
            "print_size": 50.0,
            "turntable_frames": 3,
            "turntable_size": 32,
            "turntable_fps": 13,
        },
        made_asset,
    ),
    "autoencoder": Made(
        AutoencoderTrainRecipe,
        {
            **ON_PICTURES,
            "channels": 8,
            "latent_channels": 4,
            "encoder_blocks": (0, 0, 1),
            "decoder_blocks": (1, 0, 0),
        },
        {
            **PICTURES,
            "start": "continue",
            "model": ("other", {"start": "continue"}),
            "channels": 16,
            "latent_channels": 6,
            "encoder_blocks": (0, 1, 1),
            "decoder_blocks": (1, 1, 0),
            "latent_noise": 1.0,
            "scale_weight": 2.0,
        },
        trained(shared.training.autoencoder.train, lambda out: None),
    ),
    "image stage": Made(
        ImageTrainRecipe,
        {**ON_PICTURES, "unet_channels": (16, 32), "text_width": 48, "text_layers": 1},
        {
            **PICTURES,
            "start": "continue",
            "model": ("other", {"start": "continue"}),
            "unet_channels": (16, 48),
            "layers_per_block": 2,
            "head_dim": 8,
            "text_width": 96,
            "text_layers": 2,
            "text_tokens": 8,
            "vocabulary_size": 600,
            "caption_dropout": 0.99,
            "min_snr_gamma": 1e-3,
            "text_learning_rate": 2e-2,
            "noise_bias": 5.0,
        },
        trained(shared.training.image.train, lambda out: tiny_vae().half().save_pretrained(out / "vae")),
    ),
    "scorer stage": Made(
        ScorerTrainRecipe,
        {**ON_PICTURES, "batch_size": 4, "image_width": 32, "image_layers": 1, "head_dim": 16},
        {**PICTURES, "image_width": 48, "image_layers": 2, "patch_size": 4, "head_dim": 8, "augment": 1.0},
        trained(shared.training.clip_scorer.train, build_image_folder),
    ),
    "video stage": Made(
        VideoTrainRecipe,
        {**TRAINED, "frames": 4, "embed_dim": 16, "head_dim": 8},
        {
            **STAGE,
            "start": "continue",
            "model": "other",
            "frames": 3,
            "fineness": (3, {"part_share": 1.0}),
            "part_share": (1.0, {"fineness": 3, "frames": 2, "part_share": 0.0}),
            "space_time_levels": 1,
            "alpha_learning_rate": 0.5,
            "embed_dim": 32,
            "head_dim": 16,
            "caption_dropout": 0.99,
            "noise_share": 0.0,
            "known_share": 1.0,
            "views_share": 1.0,
            "image_learning_rate": 2e-2,
            "stills": (2, {"image_learning_rate": 1e-2}),
            "noise_bias": 5.0,
            "min_snr_gamma": 1e-3,
            "difference_weight": 1.0,
        },
        trained(video.training.stage.train, lambda out: None),
    ),
}
ON_CONCEPT = {"steps": 2, "batch_size": 2, "precision": "fp32", "warmup_steps": 1, "learning_rate": 1e-2}
CONCEPT = {
    **STAGE,
    "model": "other",
    "concept": "blurb",
    "starts_as": "red",
    "caption_dropout": 0.99,
    "min_snr_gamma": 1e-3,
    "noise_bias": 5.0,
}
LOW_RANK = {**CONCEPT, "rank": 4, "text_rank": 2, "layers": "all", "token_learning_rate": 0.3}
taught = trained(shared.training.personalise.stage.train, lambda out: None, "pictures")
MADE |= {
    "lora stage": Made(LoraTrainRecipe, {**ON_CONCEPT, "concept": "zork"}, LOW_RANK, taught),
    "video lora stage": Made(
        VideoLoraTrainRecipe,
        {**ON_CONCEPT, "concept": "zork", "starts_as": "cube", "frames": 4},
        {**LOW_RANK, "frames": 3, "networks": "image"},
        trained(video.training.lora.train, lambda out: None, "clips"),
    ),
    "dreambooth stage": Made(
        DreamboothTrainRecipe,
        {**ON_CONCEPT, "concept": "zork", "class_prompt": "a cone", "prior_pictures": 3, "prior_steps": 2},
        {**LOW_RANK, "class_prompt": "a cube", "prior_pictures": 2, "prior_steps": 3, "prior_weight": 9.0},
        taught,
    ),
    "textual inversion stage": Made(
        TextualInversionRecipe, {**ON_CONCEPT, "concept": "zork"}, {**CONCEPT, "vectors": 2}, taught
    ),
}
NOT_HERE = {"offload", "compile"}  # a GPU's, and minutes of a compiler; both say that they change nothing
ELSEWHERE = {"quantization"}  # wants packages that diffusers imports wherever they are: tests/quantised shows it
KEYS = [(name, key) for name, made in MADE.items() for key in made.changes]


class Folders:
    """Two models, a data set, and new folders."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.count = 0
        self.models = {
            name: build_video_folder(root / name, seed, known=0.3, cameras=True)
            for seed, name in enumerate(("model", "other"))
        }
        for build, names in ((stable_diffusion_3, ("flow", "flowing")), (wan_2_2, ("wan", "waning"))):
            for seed, name in enumerate(names):
                pipeline = build()
                torch.manual_seed(seed)
                networks = {part: pipeline.components.get(part) for part in ("transformer", "transformer_2")}
                pipeline.register_modules(
                    **{part: type(own).from_config(own.config) for part, own in networks.items() if own is not None}
                )
                pipeline.save_pretrained(root / name)
                self.models[name] = root / name
        self.models["deep"] = build_depth_folder(root / "deep")
        self.models["upscaler"] = build_upscaler_folder(root / "upscaler")
        self.data = write_data(root / "data")
        self.picture = self.data / "0.png"
        self.pictures = root / "pictures"
        self.pictures.mkdir()
        for file in self.data.glob("*.png"):
            shutil.copy(file, self.pictures)
        self.clips = root / "clips"
        for name in ("1", "3", "5"):
            shutil.copytree(self.data / name, self.clips / name)
        layers = files.random_layers(targets=files.ATTENTION)
        self.adapters = {
            "lora": [files.kohya(root, *layers)],
            "embeddings": [files.save(root / "word.safetensors", {"zork": torch.randn(1, 32)})],
        }
        build_adapter(root / "adapter")
        build_clip(root / "clip")
        build_clip(root / "another clip", seed=9)
        self.known: dict[str, Outcome] = {}

    def new(self) -> Any:
        self.count += 1
        path = self.root / f"{self.count}"
        path.mkdir()
        return path


def write_data(folder: Any) -> Any:
    """Pictures and clips of noise, whose captions hold more pieces of words than a small vocabulary."""
    draw = np.random.default_rng(0)
    lines = []
    folder.mkdir()
    for index in range(6):
        pixels = draw.integers(0, 256, (10, 4, 4, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
        name = f"{index}" if index % 2 else f"{index}.png"
        write_clip(folder / name, pixels, 8) if index % 2 else write_image(folder / name, pixels[0])
        words = " ".join("".join(map(chr, draw.integers(97, 123, 5))) for _ in range(20))
        lines.append(json.dumps({"file": name, "caption": f"a {COLOURS[index % 5]} cube {words}"}))
    views = {"file": "1", "caption": "a red cube", "cameras": [[36 * view, 10] for view in range(10)]}
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "views").mkdir()
    write_clip(folder / "views" / "1", read_clip(folder / "1").frames, 8)
    (folder / "views" / "captions.jsonl").write_text(json.dumps(views) + "\n")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp("keys"))


def run_once(made: Made, values: Mapping[str, Any], folders: Folders) -> Outcome:
    own = {"model": "model", "prompt": "a red cube"}
    values = {**{key: value for key, value in own.items() if key in made.recipe.model_fields}, **values}
    if "model" in values:
        values["model"] = str(folders.models[values["model"]])
    values.update({key: str(folders.picture) for key in made.recipe.made_file_keys() if key in values})
    for key in {"motion_adapter", "clip_model"} & values.keys():
        values[key] = str(folders.root / values[key])
    values.update({key: str(folders.models[values[key]] / key) for key in PARTS if key in values})
    values.update({key: folders.adapters[key] for key in made.recipe.files_keys() if key in values})
    recipe = made.recipe.parse(values)
    known = f"{made.recipe.__name__} {recipe.model_dump_json()}"
    if known not in folders.known:
        folders.known[known] = made.run(recipe, folders)
    return folders.known[known]


@pytest.mark.parametrize("recipe", sorted({made.recipe for made in MADE.values()}, key=lambda recipe: recipe.__name__))
def test_no_key_is_left_out(recipe):
    asked = {key for made in MADE.values() if made.recipe is recipe for key in made.changes}
    assert asked == recipe.model_fields.keys() - NOT_HERE - ELSEWHERE
    for key in NOT_HERE & recipe.model_fields.keys():
        assert recipe.model_fields[key].json_schema_extra[SAME_RESULT]


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_a_key_changes_what_comes_out_or_says_why_not(name, key, folders, request):
    made = MADE[name]
    if key in ("guidance", "scorer"):  # the house has one; the example plug-in adds another
        request.getfixturevalue("with_plugin")
    change = made.changes[key]
    value, needed = change if isinstance(change, tuple) and isinstance(change[1], dict) else (change, {})
    before = run_once(made, {**made.base, **needed}, folders)
    after = run_once(made, {**made.base, **needed, key: value}, folders)
    if SAME_RESULT in (made.recipe.model_fields[key].json_schema_extra or {}):
        assert before.keys() == after.keys()
        for what in before:
            assert near(before[what], after[what]), what
    else:
        same = before.keys() == after.keys() and all(np.array_equal(before[what], after[what]) for what in before)
        assert not same, f"{key} of {made.recipe.__name__}: {value!r} changes nothing"


def near(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype == np.uint8:
        return int(np.abs(a.astype(int) - b.astype(int)).max(initial=0)) <= 2
    return bool(np.allclose(a, b, rtol=ROUNDING, atol=ROUNDING))
