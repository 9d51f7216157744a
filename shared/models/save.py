"""Write an image model as a diffusers folder that stock `StableDiffusionPipeline.from_pretrained` loads."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import diffusers
import torch
from diffusers import ModelMixin, SchedulerMixin, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel

from shared.artifacts.files import atomic_path, replaced_folder
from shared.latents.codec import Autoencoder
from shared.models.weight_files import read_json

MOST_BYTES = "16MB"  # of a file of weights: such files pass where large ones do not


def save_image_model(
    folder: str | Path,
    *,
    unet: UNet2DConditionModel,
    vae: Autoencoder,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scheduler: SchedulerMixin,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write the five components and `model_index.json`; weights as safetensors in `dtype`. Returns the folder."""
    folder = Path(folder)
    for name, network in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        save_network(folder / name, network, dtype)
    tokenizer.save_pretrained(folder / "tokenizer")
    tokenizer.backend_tokenizer.model.save(
        str(folder / "tokenizer")
    )  # vocab.json, merges.txt: transformers 4 reads them
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", type(text_encoder).__name__],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "unet": ["diffusers", type(unet).__name__],
        "vae": ["diffusers", type(vae).__name__],
    }
    present = read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    with atomic_path(folder / "model_index.json") as temporary:  # other components that are there stay known
        temporary.write_text(json.dumps({**present, **index}, indent=2) + "\n")
    return folder


def save_network(folder: Path, network: ModelMixin | PreTrainedModel, dtype: torch.dtype = torch.float16) -> None:
    """One component's folder; an old one stays whole until the new one is."""
    with replaced_folder(folder) as new:
        write_network(new, network, dtype)


def write_network(folder: Path, network: ModelMixin | PreTrainedModel, dtype: torch.dtype = torch.float16) -> None:
    """Weights in `dtype`, in files of at most MOST_BYTES with an index where there are several; and the config."""
    # nn.Module's own `to`: diffusers' warns that it casts everything, which is what is wanted
    nn.Module.to(copy.deepcopy(network), dtype).save_pretrained(folder, max_shard_size=MOST_BYTES)
    forget_path(folder / "config.json")
    if isinstance(network, PreTrainedModel):
        name_dtype(folder / "config.json")


def forget_path(config: Path) -> None:
    """Takes out of a saved config where on this machine its network was loaded from."""
    kept = {key: value for key, value in read_json(config).items() if key != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2) + "\n")


def name_dtype(config: Path) -> None:
    """Says float32 in a saved transformers config: diffusers' networks come back in it too, however stored."""
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")
