"""Image models: a diffusers folder, a single .safetensors file or a hub id, to the parts that Kinoform works with.

Loading is strict (`shared.models.weights`) and runs no code that comes with a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel

from shared.attention import install_attention
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule, prediction_type_of
from shared.errors import ModelError
from shared.latents.codec import Autoencoder, Codec
from shared.models.adapters.embeddings import with_embeddings
from shared.models.adapters.lora import fuse_loras
from shared.models.adapters.recipe import PARTS
from shared.models.beside import Beside, beside_of
from shared.models.layouts.single_file import load_parts
from shared.models.parts import (
    SECOND_ENCODERS,
    TEXT_ENCODERS,
    TOKENIZERS,
    UNETS,
    VAES,
    check_fit,
    class_of,
    load_part,
    made_scheduler,
    named,
    scheduler_class_of,
)
from shared.models.pipelines.classes import CLASS, SEES, sees_more
from shared.models.pipelines.keys import R
from shared.models.prompts.paired_text import PairedText
from shared.models.prompts.text import TextConditioner, TextEncoder, read_tokenizer
from shared.models.replaced import CLASSES, load_replacement
from shared.models.source import read_index, resolve_model
from shared.models.weight_files import read_json, weight_hashes
from shared.recipe import Recipe


@dataclass
class ImageModel:
    """A latent diffusion model of images.

    name: what it was asked for by. path: where its files are. scheduler_config: of the scheduler it samples with.
    one_by_one: whether it makes one thing at a time, and no batches.
    beside: what finds what the UNet sees beside latents; None where that is nothing.
    notes: what a user should hear of the adapters in it.
    """

    name: str
    path: Path
    unet: UNet2DConditionModel
    codec: Codec
    text: TextConditioner
    scheduler_class: type[SchedulerMixin]
    scheduler_config: dict[str, Any]
    schedule: NoiseSchedule
    beside: Beside | None = None
    one_by_one: ClassVar[bool] = False
    notes: tuple[str, ...] = ()
    _hashes: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def denoiser(self) -> Denoiser:
        """The UNet as a denoiser of latents "b c h w"."""
        return Denoiser(self.unet, self.schedule, self.prediction_type)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def encoders(self) -> list[TextEncoder]:
        """The networks that read a prompt."""
        return self.text.encoders

    @property
    def sees(self) -> str | None:
        """What the UNet sees beside latents: one of `shared.models.pipelines.classes.SEES`, or nothing."""
        return None if self.beside is None else self.beside.sees

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

    def conditions(self, prompts: list[str], size: tuple[int, int] | None = None) -> Conditioning:
        """What the UNet is told of prompts, for pictures of `size` (width, height) in pixels; its own unless given."""
        return self.text.conditions(prompts, self.own_size if size is None else size)

    def make_scheduler(self) -> SchedulerMixin:
        """A fresh scheduler of the model's own kind."""
        return self.scheduler_class.from_config(self.scheduler_config)

    def unused(self, recipe: Recipe) -> list[str]:
        """Keys of a recipe that have no part in what comes out: none."""
        return []

    def completed(self, recipe: R) -> R:
        """The recipe with what the model has of its own for what it does not set: nothing that is kept."""
        return recipe

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
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seeing: bool = False,
    lora: Sequence[str] = (),
    embeddings: Sequence[str] = (),
    **parts: Sequence[str],
) -> ImageModel:
    """The image model at `source` (see `resolve_model`), in `dtype` on `device`, its weights frozen.

    seeing: whether one whose UNet sees more than latents will do (`ImageModel.beside`).
    lora, embeddings: files of adapters (`shared.models.adapters`), which become part of its weights and words.
    parts: by its component, a file that takes the place of its own (`shared.models.replaced`), or none.
    Raises ModelError: a part that no model of the core has; nothing there; not a diffusers folder; a component of a
    kind that is not supported; weights that are pickled, cut short, missing, misshapen or not finite.
    """
    for unknown in parts.keys() - {*PARTS}:
        raise TypeError(f"load_image_model() has no argument {unknown!r}, and no part of a model is called so")
    replaced = {component: Path(file) for component, files in parts.items() for file in files}
    for component, file in replaced.items():
        if component not in CLASSES:
            raise ModelError(
                f"{component} {file}", expected="a model that has one", got=f"model {source}, which has a UNet"
            )
    path = resolve_model(source)
    sees = SEES.get(str(read_index(path).get(CLASS))) if path.is_dir() else None
    if sees is not None and not seeing:
        raise sees_more(path, sees)
    model = (_load_single_file if path.is_file() else _load_folder)(path, str(source), device, dtype, replaced)
    notes = fuse_loras(model.name, model.unet, model.encoders, lora)
    return replace(model, text=with_embeddings(model.name, model.text, embeddings), notes=tuple(notes))


def _load_single_file(
    path: Path, name: str, device: str | torch.device, dtype: torch.dtype, replaced: Mapping[str, Path]
) -> ImageModel:
    parts = load_parts(path, device, dtype, replaced)
    for _, encoder in parts.texts:
        install_attention(encoder)
    texts = [TextConditioner(tokenizer, encoder) for tokenizer, encoder in parts.texts]
    text = PairedText(*texts) if len(texts) > 1 else texts[0]
    scheduler_class = scheduler_class_of({"scheduler": ["", parts.scheduler["_class_name"]]}, path)
    return _assemble(name, path, parts.unet, parts.vae, text, scheduler_class, parts.scheduler)


def _load_folder(
    path: Path, name: str, device: str | torch.device, dtype: torch.dtype, replaced: Mapping[str, Path]
) -> ImageModel:
    index = read_index(path)
    parts = {}  # first, so that what does not fit is told before the rest is loaded
    for component, file in replaced.items():
        own = {**read_json(path / component / "config.json"), "_class_name": named(index, component)}
        parts[component] = load_replacement(component, file, own, name, device, dtype)
    unet = parts.get("unet") or load_part(path, index, "unet", UNETS, device, dtype)
    # float16 overflows some autoencoders, and the gradients that distillation sends through them underflow in it
    half = torch.float32 if dtype is torch.float16 else dtype
    vae = parts.get("vae") or load_part(path, index, "vae", VAES, device, half)
    text = load_text(path, device=device, dtype=dtype)
    beside = beside_of(path, index, device)
    scheduler_class = scheduler_class_of(index, path)
    config = read_json(path / "scheduler" / "scheduler_config.json")
    return _assemble(name, path, unet, vae, text, scheduler_class, config, beside)


def load_text(
    folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> TextConditioner:
    """The tokenizer and text encoder of a model folder, frozen. Raises ModelError as `load_image_model` does."""
    index = read_index(folder)
    first = _load_text(folder, index, "", TEXT_ENCODERS, device, dtype)
    if named(index, "text_encoder_2") is None:
        return first
    second = _load_text(folder, index, "_2", SECOND_ENCODERS, device, dtype)
    return PairedText(first, second, zeros=index.get("force_zeros_for_empty_prompt", True))


def _load_text(
    folder: Path,
    index: dict[str, Any],
    which: str,
    supported: Mapping[str, type],
    device: str | torch.device,
    dtype: torch.dtype,
) -> TextConditioner:
    """which: what the names of its components end with."""
    encoder = load_part(folder, index, f"text_encoder{which}", supported, device, dtype)
    install_attention(encoder)
    class_of(index, f"tokenizer{which}", TOKENIZERS, folder)
    return TextConditioner(read_tokenizer(folder / f"tokenizer{which}"), encoder)


def _assemble(
    name: str,
    path: Path,
    unet: UNet2DConditionModel,
    vae: Autoencoder,
    text: TextConditioner,
    scheduler_class: type[SchedulerMixin],
    scheduler_config: dict[str, Any],
    beside: Beside | None = None,
) -> ImageModel:
    scheduler = made_scheduler(scheduler_class, scheduler_config, name)
    check_fit(name, unet, vae, text, 0 if beside is None else beside.channels)
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
        beside=beside,
    )
    Denoiser(unet, model.schedule, model.prediction_type)  # raises ModelError where the two do not go together
    return model
