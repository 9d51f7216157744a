"""A whole Stable Diffusion 1, 2 or XL in one .safetensors file of the original layout, loaded without any other file
but the words of CLIP: as strictly as a folder, a tensor at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from shared.compute.torch_internals import detect_fake_mode
from shared.errors import ModelError
from shared.models.layouts.clip_vocabulary import clip_tokenizer
from shared.models.layouts.family import SD2, XL, check_single_file
from shared.models.layouts.original import scheduler_config, text_config, unet_config, vae_config
from shared.models.layouts.original_names import Rows, translated
from shared.models.layouts.prediction import EPSILON, ZERO_SNR_MARKER, V, said
from shared.models.prompts.text import TextEncoder
from shared.models.replaced import config_beside, load_replacement
from shared.models.weight_files import Entry, read_entries
from shared.models.weights import Stored, fill, matched
from shared.rng import normal

HALF = 0.5  # of the correlation between noise and what is predicted of it: 1 for the noise itself, near 0 for v
CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
NONE: Mapping[str, Path] = {}


@dataclass(frozen=True)
class SingleFile:
    """What a file says of itself: its family, its tensors, what it says of the prediction (None where nothing)."""

    file: Path
    family: str
    entries: Mapping[str, Entry]
    prediction_type: str | None

    @classmethod
    def read(cls, file: Path, beside: Path | None = None) -> SingleFile:
        """beside: the file by whose name a configuration may lie beside it, if that is another one.

        Raises ModelError for a file that is damaged, of another family, or a part of a model.
        """
        entries, metadata = read_entries(file)
        header = {name: entry.shape for name, entry in entries.items()}
        return cls(file, check_single_file(file, header), entries, said(beside or file, header, metadata))

    def configs(self, prediction_type: str) -> dict[str, dict[str, Any]]:
        """Of "unet", "vae", "text_encoder", "scheduler" and XL's "text_encoder_2", as a diffusers folder has them."""
        header = {name: entry.shape for name, entry in self.entries.items()}
        unet = unet_config(self.file, header, self.family, prediction_type)
        scheduler = scheduler_config(self.family, prediction_type, zero_snr=ZERO_SNR_MARKER in header)
        vae, text = vae_config(self.file, header, unet), text_config(self.file, header)
        second = {"text_encoder_2": text_config(self.file, header, second=True)} if self.family == XL else {}
        return {"unet": unet, "vae": vae, "text_encoder": text, **second, "scheduler": scheduler}

    def tensors(self, component: str, config: Mapping[str, Any]) -> dict[str, Stored]:
        """A component's tensors, by their names in its network."""
        depth = {
            "unet": lambda: config["layers_per_block"],
            "vae": lambda: len(config["block_out_channels"]),
            "text_encoder": lambda: config["num_hidden_layers"],
        }[component.removesuffix("_2")]()
        return placed(self.file, self.entries, translated(self.entries, component, depth))

    def load(self, component: str, config: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> Any:
        """A component's network with its weights, frozen. Raises ModelError as `shared.models.weights.fill` does."""
        tensors = self.tensors(component, config)
        with self._shapes_of_a_network():
            return fill(_builder(component, config), tensors, self.file, device=device, dtype=dtype)

    def matched(self, component: str, config: dict[str, Any]) -> dict[str, Stored]:
        """Where every tensor of a component's network lies. Raises ModelError as `shared.models.weights.matched`."""
        tensors = self.tensors(component, config)
        with self._shapes_of_a_network():
            return matched(_builder(component, config), tensors, self.file)[1]

    @contextmanager
    def _shapes_of_a_network(self) -> Iterator[None]:
        """A ModelError in place of what libraries raise for shapes that no network has."""
        try:
            yield
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
            raise ModelError(f"model {self.file}", expected=f"a {self.family}", got=str(error)) from error


def _builder(component: str, config: dict[str, Any]) -> Callable[[], nn.Module]:
    """What makes a component's network, without its weights."""
    if component.startswith("text_encoder"):
        kind = CLIPTextModelWithProjection if component.endswith("_2") else CLIPTextModel
        return lambda: kind(CLIPTextConfig.from_dict(config))
    return partial(CLASSES[component].from_config, config)


@dataclass(frozen=True)
class Parts:
    """texts: each a tokenizer with its encoder, one or two. scheduler: its configuration."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    texts: tuple[tuple[CLIPTokenizer, TextEncoder], ...]
    scheduler: dict[str, Any]


def load_parts(
    file: Path, device: str | torch.device, dtype: torch.dtype, replaced: Mapping[str, Path] = NONE
) -> Parts:
    """The networks (the autoencoder never in float16), the tokenizers, and the scheduler's configuration.

    replaced: files of networks that take the place of "unet" or "vae".
    Raises ModelError: what `SingleFile.read` refuses; no vocabulary of CLIP; weights that are missing, left over,
    misshapen or not finite.
    """
    single = SingleFile.read(file)
    tokenizers = {"text_encoder": clip_tokenizer(file, single.family)}
    if single.family == XL:
        tokenizers["text_encoder_2"] = clip_tokenizer(file, single.family, second=True)
    configs = single.configs(single.prediction_type or V)
    others = {}
    for name, part in replaced.items():
        own = {**configs[name], "_class_name": CLASSES[name].__name__}
        others[name] = load_replacement(name, part, own, str(file), device, dtype)
    unet = others.get("unet") or single.load("unet", configs["unet"], device, dtype)
    prediction_type = single.prediction_type or prediction_of(unet, single.family)
    configs = single.configs(prediction_type)
    if "unet" not in replaced or config_beside(replaced["unet"]) is None:
        unet.register_to_config(sample_size=configs["unet"]["sample_size"])
    half = torch.float32 if dtype is torch.float16 else dtype
    vae = others.get("vae") or single.load("vae", configs["vae"], device, half)
    texts = []
    for name, tokenizer in tokenizers.items():
        special = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        texts.append((tokenizer, single.load(name, {**configs[name], **special}, device, dtype)))
    return Parts(unet, vae, tuple(texts), configs["scheduler"])


def prediction_of(unet: UNet2DConditionModel, family: str) -> str:
    """What a UNet predicts whose file does not say it. In a program that runs without values the family's first."""
    if detect_fake_mode() is not None:
        return V if family == SD2 else EPSILON
    return probed(unet)


@torch.no_grad()
def probed(unet: UNet2DConditionModel) -> str:
    """What a UNet does with pure noise at the last timestep: a network that predicts noise gives it back.

    One step on latents of 8x8 (larger for deeper networks). With alpha_bar near 0 there x_t is all but the noise,
    while v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 has nothing of it.
    """
    side = 2 ** max(len(unet.config["block_out_channels"]) - 1, 3)
    noise = normal((1, unet.config["in_channels"], side, side), 0)
    text = torch.zeros(1, 2, unet.config["cross_attention_dim"]).to(unet.device, unet.dtype)
    last = torch.tensor([999], device=unet.device)
    added = None
    if unet.config["addition_embed_type"] == "text_time":
        times = torch.zeros(1, 6).to(text)
        pooled = unet.config["projection_class_embeddings_input_dim"] - 6 * unet.config["addition_time_embed_dim"]
        added = {"text_embeds": torch.zeros(1, pooled).to(text), "time_ids": times}
    made = unet(noise.to(text), last, encoder_hidden_states=text, added_cond_kwargs=added)
    predicted = made.sample.float().cpu()
    similarity = torch.nn.functional.cosine_similarity(noise.flatten(), predicted.flatten(), dim=0)
    return EPSILON if float(similarity) > HALF else V


def placed(file: Path, entries: Mapping[str, Entry], places: Iterable[tuple[str, Rows]]) -> dict[str, Stored]:
    """Where the tensors of a network lie in a file, by their names in it. places: of stored tensors by their names.

    Raises ModelError for one whose rows are not as many equal parts as are wanted of it.
    """
    found = {}
    for stored, rows in places:
        entry = entries[stored]
        if rows.parts > 1:
            entry = _part(file, stored, entry, rows.part, rows.parts)
        shape = entry.shape[::-1] if rows.turned else entry.shape
        found[rows.name] = Stored(file, entry, shape, rows.turned)
    return found


def _part(file: Path, name: str, entry: Entry, part: int, parts: int) -> Entry:
    """One of equal parts of a tensor's rows."""
    if not entry.shape or entry.shape[0] % parts:
        raise ModelError(f"weights in {file}: {name}", expected=f"rows in {parts} equal parts", got=entry.shape)
    size = (entry.stop - entry.start) // parts
    start = entry.start + part * size
    return Entry(entry.dtype, (entry.shape[0] // parts, *entry.shape[1:]), start, start + size)
