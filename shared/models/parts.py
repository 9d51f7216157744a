"""The parts of a model's folder: which classes they may be, each loaded strictly, and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    AutoencoderTiny,
    SchedulerMixin,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedModel

from shared.errors import ModelError
from shared.latents.codec import Autoencoder
from shared.models.prompts.text import TextConditioner
from shared.models.weight_files import check_plain, read_json, weight_files
from shared.models.weights import fill, tensors_in

UNETS = {"UNet2DConditionModel": UNet2DConditionModel}
VAES = {vae.__name__: vae for vae in (AutoencoderKL, AutoencoderTiny, AutoencoderKLTemporalDecoder)}
TEXT_ENCODERS = {"CLIPTextModel": CLIPTextModel}
SECOND_ENCODERS = {"CLIPTextModelWithProjection": CLIPTextModelWithProjection}
TOKENIZERS = {"CLIPTokenizer": CLIPTokenizer, "CLIPTokenizerFast": CLIPTokenizer}  # one and the same by now


def load_part(
    path: Path,
    index: dict[str, Any],
    component: str,
    supported: Mapping[str, type],
    device: str | torch.device,
    dtype: torch.dtype,
) -> Any:
    """The network in a subfolder of a model, frozen. Raises ModelError for one of none of the `supported` classes, and
    for weights or a configuration that are not those of its class.
    """
    network_class = class_of(index, component, supported, path)
    folder = path / component
    files = weight_files(folder)  # a missing or pickled component is the clearer fault
    return load_files(network_class, read_json(folder / "config.json"), files, folder, device, dtype)


def load_files(
    network_class: Any,
    config: dict[str, Any],
    files: Iterable[Path],
    where: Path,
    device: str | torch.device,
    dtype: torch.dtype,
) -> Any:
    """The network of a class with the weights in `files`, frozen. where: a file or folder that messages name.

    Raises ModelError for weights or a configuration that are not those of the class.
    """
    check_plain(config, where)
    if network_class is AutoencoderTiny:
        config = {**config}
        config.pop("block_out_channels", None)  # it writes this key, and warns about it when it reads

    def build() -> nn.Module:
        if issubclass(network_class, PreTrainedModel):
            return network_class(network_class.config_class.from_dict(config))
        return network_class.from_config(config)

    try:
        return fill(build, tensors_in(files), where, device=device, dtype=dtype)
    except ModelError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, NotImplementedError) as error:
        place = where / "config.json" if where.is_dir() else where.with_name("config.json")
        raise ModelError(f"{place}", expected=f"that of a {network_class.__name__}", got=str(error)) from error


def class_of(index: dict[str, Any], component: str, supported: Mapping[str, type], path: Path) -> Any:
    """The class of a component. Raises ModelError where it is none of `supported`."""
    name = named(index, component)
    if not isinstance(name, str) or name not in supported:
        raise ModelError(f"{component} of model {path}", expected=" or ".join(supported), got=name or "none")
    return supported[name]


def named(index: dict[str, Any], component: str) -> Any:
    """The class that the index names for a component, if any."""
    entry = index.get(component)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def scheduler_class_of(index: dict[str, Any], path: Path, component: str = "scheduler") -> type[SchedulerMixin]:
    """The scheduler's class. Raises ModelError where it is none of diffusers' own."""
    name = named(index, component)
    found = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise ModelError(f"{component} of model {path}", expected="a diffusers scheduler", got=name or "none")
    return found


def scheduler_of(folder: Path, index: dict[str, Any], component: str = "scheduler") -> SchedulerMixin:
    """A model folder's own scheduler. Raises ModelError where it is none of diffusers', or its configuration none."""
    kind = scheduler_class_of(index, folder, component)
    return made_scheduler(kind, read_json(folder / component / "scheduler_config.json"), folder)


def made_scheduler(kind: type[SchedulerMixin], config: dict[str, Any], name: str | Path) -> SchedulerMixin:
    """A scheduler by its configuration. Raises ModelError, which names the model, for a wrong one."""
    try:
        return kind.from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ModelError(f"scheduler of model {name}", expected="a valid configuration", got=str(error)) from error


def check_fit(
    name: str,
    unet: UNet2DConditionModel,
    vae: Autoencoder,
    text: TextConditioner,
    beside: int = 0,
) -> None:
    """Components that load one by one may still belong to different models. beside: channels that the UNet has for
    something else than latents."""
    latent_channels = vae.config["latent_channels"]
    for what, wanted, got in (
        ("latent channels of the unet", latent_channels + beside, unet.config["in_channels"]),
        ("output channels of the unet", latent_channels, unet.config["out_channels"]),
        (
            "text width of the unet",
            sum(e.config.hidden_size for e in text.encoders),
            unet.config["cross_attention_dim"],
        ),
        (
            "text encoders of the unet",
            2 if unet.config["addition_embed_type"] == "text_time" else 1,
            len(text.encoders),
        ),
    ):
        if wanted != got:
            raise ModelError(f"model {name}: {what}", expected=wanted, got=got)
    if len(text.tokenizer) > text.text_encoder.config.vocab_size:
        raise ModelError(
            f"model {name}: tokens", expected=f"at most {text.text_encoder.config.vocab_size}", got=len(text.tokenizer)
        )
