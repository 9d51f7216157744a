"""Image models: a diffusers folder, a single .safetensors file or a hub id, to the parts that Kinoform works with.

Loading is strict (`shared.models.weights`) and runs no code that comes with a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from shared.attention import install_attention
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule, prediction_type_of
from shared.errors import ModelError
from shared.latents.codec import Autoencoder, Codec
from shared.models.layouts.single_file import load_parts
from shared.models.source import read_index, resolve_model
from shared.models.text import TextConditioner, read_tokenizer
from shared.models.weight_files import read_json, weight_files, weight_hashes
from shared.models.weights import load_network

UNETS = {"UNet2DConditionModel": UNet2DConditionModel}
VAES = {vae.__name__: vae for vae in (AutoencoderKL, AutoencoderTiny, AutoencoderKLTemporalDecoder)}
TEXT_ENCODERS = {"CLIPTextModel": CLIPTextModel}
TOKENIZERS = {"CLIPTokenizer": CLIPTokenizer, "CLIPTokenizerFast": CLIPTokenizer}  # one and the same by now


@dataclass
class ImageModel:
    """A latent diffusion model of images.

    name: what it was asked for by. path: where its files are. scheduler_config: of the scheduler it samples with.
    """

    name: str
    path: Path
    unet: UNet2DConditionModel
    codec: Codec
    text: TextConditioner
    scheduler_class: type[SchedulerMixin]
    scheduler_config: dict[str, Any]
    schedule: NoiseSchedule
    _hashes: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def denoiser(self) -> Denoiser:
        """The UNet as a denoiser of latents "b c h w"."""
        return Denoiser(self.unet, self.schedule, self.prediction_type)

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts; one of `shared.diffusion.denoiser.PREDICTION_TYPES`."""
        return prediction_type_of(self.make_scheduler())

    @property
    def own_size(self) -> tuple[int, int]:
        """Width and height in pixels of the pictures that the model was trained on."""
        return own_size(self.unet, self.codec)

    @property
    def default_size(self) -> int:
        """Side in pixels of the squares that the model was trained on; the shorter where they are none."""
        return min(self.own_size)

    def make_scheduler(self) -> SchedulerMixin:
        """A fresh scheduler of the model's own kind."""
        return self.scheduler_class.from_config(self.scheduler_config)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every weights file, by its path in the model folder. Computed once."""
        if not self._hashes:
            self._hashes.update(weight_hashes(self.path))
        return dict(self._hashes)


def own_size(unet: UNet2DConditionModel, codec: Codec) -> tuple[int, int]:
    """Width and height in pixels of the pictures that a network was trained on: `sample_size` is a side, or (h, w)."""
    size = unet.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return width * codec.factor, height * codec.factor


def load_image_model(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ImageModel:
    """The image model at `source` (see `resolve_model`), in `dtype` on `device`, its weights frozen.

    Raises ModelError: nothing there; not a diffusers folder; a component of a kind that is not supported; weights that
    are pickled, cut short, missing, misshapen or not finite.
    """
    path = resolve_model(source)
    if path.is_file():
        unet, vae, text_encoder, tokenizer, config = load_parts(path, device, dtype)
        install_attention(text_encoder)
        text = TextConditioner(tokenizer, text_encoder)
        return _assemble(
            str(source),
            path,
            unet,
            vae,
            text,
            _scheduler_class({"scheduler": ["", config["_class_name"]]}, path),
            config,
        )
    index = read_index(path)
    unet = _load(path, index, "unet", UNETS, device, dtype)
    # float16 overflows some autoencoders, and the gradients that distillation sends through them underflow in it
    vae = _load(path, index, "vae", VAES, device, torch.float32 if dtype is torch.float16 else dtype)
    text = load_text(path, device=device, dtype=dtype)
    scheduler_class = _scheduler_class(index, path)
    config = read_json(path / "scheduler" / "scheduler_config.json")
    return _assemble(str(source), path, unet, vae, text, scheduler_class, config)


def load_text(
    folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> TextConditioner:
    """The tokenizer and text encoder of a model folder, frozen. Raises ModelError as `load_image_model` does."""
    index = read_index(folder)
    encoder = _load(folder, index, "text_encoder", TEXT_ENCODERS, device, dtype)
    install_attention(encoder)
    _class_of(index, "tokenizer", TOKENIZERS, folder)
    return TextConditioner(read_tokenizer(folder / "tokenizer"), encoder)


def _load(
    path: Path,
    index: dict[str, Any],
    component: str,
    supported: Mapping[str, type],
    device: str | torch.device,
    dtype: torch.dtype,
) -> Any:
    network_class = _class_of(index, component, supported, path)
    folder = path / component
    weight_files(folder)  # a missing or pickled component is the clearer fault
    config = read_json(folder / "config.json")
    if network_class is AutoencoderTiny:
        config.pop("block_out_channels", None)  # it writes this key, and warns about it when it reads

    def build() -> nn.Module:
        if network_class is CLIPTextModel:
            return CLIPTextModel(CLIPTextConfig.from_dict(config))
        return network_class.from_config(config)

    try:
        network = load_network(build, folder, device=device, dtype=dtype)
    except ModelError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"{folder / 'config.json'}", expected=f"that of a {network_class.__name__}", got=str(error)
        ) from error
    return network


def _class_of(index: dict[str, Any], component: str, supported: Mapping[str, type], path: Path) -> Any:
    entry = index.get(component)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if not isinstance(name, str) or name not in supported:
        raise ModelError(f"{component} of model {path}", expected=" or ".join(supported), got=name or "none")
    return supported[name]


def _scheduler_class(index: dict[str, Any], path: Path) -> type[SchedulerMixin]:
    entry = index.get("scheduler")
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    found = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise ModelError(f"scheduler of model {path}", expected="a diffusers scheduler", got=name or "none")
    return found


def _assemble(
    name: str,
    path: Path,
    unet: UNet2DConditionModel,
    vae: Autoencoder,
    text: TextConditioner,
    scheduler_class: type[SchedulerMixin],
    scheduler_config: dict[str, Any],
) -> ImageModel:
    try:
        scheduler = scheduler_class.from_config(scheduler_config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ModelError(f"scheduler of model {name}", expected="a valid configuration", got=str(error)) from error
    _check_fit(name, unet, vae, text.text_encoder, text.tokenizer)
    for network in (unet, vae):
        install_attention(network)
    model = ImageModel(
        name=name,
        path=path,
        unet=unet,
        codec=Codec(vae),
        text=text,
        scheduler_class=scheduler_class,
        scheduler_config=dict(scheduler.config),
        schedule=NoiseSchedule.from_scheduler(scheduler).to(unet.device),
    )
    Denoiser(unet, model.schedule, model.prediction_type)  # raises ModelError where the two do not go together
    return model


def _check_fit(
    name: str,
    unet: UNet2DConditionModel,
    vae: Autoencoder,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    """Components that load one by one may still belong to different models."""
    latent_channels = vae.config["latent_channels"]
    for what, wanted, got in (
        ("latent channels of the unet", latent_channels, unet.config["in_channels"]),
        ("output channels of the unet", latent_channels, unet.config["out_channels"]),
        ("text width of the unet", text_encoder.config.hidden_size, unet.config["cross_attention_dim"]),
    ):
        if wanted != got:
            raise ModelError(f"model {name}: {what}", expected=wanted, got=got)
    if len(tokenizer) > text_encoder.config.vocab_size:
        raise ModelError(
            f"model {name}: tokens", expected=f"at most {text_encoder.config.vocab_size}", got=len(tokenizer)
        )
