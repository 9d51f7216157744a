"""Write an image model as a diffusers folder that stock `StableDiffusionPipeline.from_pretrained` loads."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ModelMixin, SchedulerMixin, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel

from shared.artifacts.files import atomic_path, replaced_folder
from shared.latents.codec import Autoencoder
from shared.models.weight_files import read_json

LIBRARIES = {"text": "transformers", "tokenizer": "transformers"}  # by what a component's name begins with
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
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    index = pipeline_index({name: type(part).__name__ for name, part in parts.items()})
    present = read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    with atomic_path(folder / "model_index.json") as temporary:  # other components that are there stay known
        temporary.write_text(json.dumps({**present, **index}, indent=2) + "\n")
    return folder


def pipeline_index(classes: Mapping[str, str]) -> dict[str, Any]:
    """What `model_index.json` says of a Stable Diffusion whose components are of these classes: of XL where there are
    two text encoders."""
    xl = "text_encoder_2" in classes
    own = {"force_zeros_for_empty_prompt": True} if xl else {"requires_safety_checker": False}
    absent = ("feature_extractor", "image_encoder", *(() if xl else ("safety_checker",)))
    return {
        "_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        **own,
        **{name: [None, None] for name in absent},
        **{name: [LIBRARIES.get(name.split("_")[0], "diffusers"), classes[name]] for name in sorted(classes)},
    }


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
