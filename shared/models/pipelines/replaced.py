"""Other networks in the place of a pipeline's own: diffusers' folder of one, a file of it, an index of its shards, or a
single file in the original layout, as transformers of Stable Diffusion 3, Flux, Wan and LTX-Video are published, be it
quantised (GGUF).

A file with diffusers' `config.json` beside it says what it is. Any other is taken to be like the part that it replaces,
of which the folder needs the configuration alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin
from torch import nn

from shared.compute.quantised import QUANTISED, quantise
from shared.errors import ModelError, one_line
from shared.models.layouts.gguf_file import check_blocks, is_quantised, quantised
from shared.models.layouts.original_networks import kept_precision, network_tensors
from shared.models.parts import named
from shared.models.pipelines.classes import components
from shared.models.pipelines.load import module_of
from shared.models.replaced import config_beside
from shared.models.weight_files import check_plain, read_json
from shared.models.weights import check_finite

# What the other parts of a pipeline rely on, by the names that diffusers' classes have for it.
RELIED_ON = (
    "in_channels", "out_channels", "latent_channels", "z_dim", "patch_size", "patch_size_t", "joint_attention_dim",
    "pooled_projection_dim", "caption_channels", "cross_attention_dim", "text_dim", "text_embed_dim", "image_dim",
    "guidance_embeds", "addition_embed_type",
)  # fmt: skip


def load_replacements(
    folder: Path,
    index: Mapping[str, Any],
    files: Mapping[str, Path],
    device: str | torch.device,
    dtype: torch.dtype,
    quantization: str = "none",
) -> dict[str, nn.Module]:
    """The networks in `files`, frozen, by the components of a pipeline's folder that they take the place of.

    quantization: of all but autoencoders (`shared.compute.quantised`).
    Raises ModelError: a component that the folder does not have; a file of another network, or one that the rest of the
    model does not go with, which names both; tensors that are missing, left over, misshapen or not finite.
    """
    found = {component: _load(folder, index, component, file, device, dtype) for component, file in files.items()}
    for component, network in found.items():
        if component in QUANTISED:
            quantise(network, quantization)
    return found


def _load(
    folder: Path,
    index: Mapping[str, Any],
    component: str,
    file: Path,
    device: str | torch.device,
    dtype: torch.dtype,
) -> nn.Module:
    library = next((library for name, library, _ in components(index) if name == component), None)
    if library is None:
        has = ", ".join(name for name, _, _ in components(index))
        raise ModelError(f"{component} {file}", expected=f"a model that has one; {folder} has {has}", got="none in it")
    own = {**read_json(folder / component / "config.json"), "_class_name": named(dict(index), component)}
    beside = config_beside(file)
    config = own if beside is None else beside
    check_plain(beside or {}, file)
    network = _without_weights(module_of(library), config, component, file, dtype)
    if beside is not None:
        likeness = _without_weights(module_of(library), own, component, folder / component, dtype)
        _check_same(component, file, network.config, likeness.config, folder)
    try:
        found = network_tensors(component, network, config, file)
    except ModelError as error:
        if beside is None:
            error.hint = (
                error.hint or f"Without a config.json beside it, it has to be like the {component} of model {folder}"
            )
        raise
    check_finite({name: tensor for name, tensor in found.items() if not is_quantised(tensor)}, file)
    if any(map(is_quantised, found.values())):
        check_blocks(found, file, device)
        place = folder / component if beside is None else file.parent
        network = quantised(type(network), found, place, dtype)
        return network.to(device).requires_grad_(False).eval()
    kept = {}
    for name, tensor in found.items():
        kept[name] = tensor.to(device, kept_precision(network, name, tensor, dtype), copy=True)
    network.load_state_dict(kept, strict=True, assign=True)
    return network.to(device).requires_grad_(False).eval()


def _without_weights(module: Any, config: dict[str, Any], component: str, where: Path, dtype: torch.dtype) -> Any:
    """The network of a configuration, its weights on "meta". where: what messages name."""
    name = config["_class_name"]
    found = getattr(module, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(found) and issubclass(found, ModelMixin)):
        raise ModelError(f"{component} {where}", expected="a network of diffusers", got=name)
    network_class: Any = found
    try:
        with _default(dtype), init_empty_weights(include_buffers=False):
            return network_class.from_config(config)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{component} {where}", expected=f"a {name}", got=one_line(str(error))) from error


def _check_same(component: str, file: Path, config: Mapping[str, Any], own: Mapping[str, Any], model: Path) -> None:
    theirs, ours = ({key: each[key] for key in RELIED_ON if key in each} | _levels(each) for each in (config, own))
    for key in theirs:
        if key in ours and theirs[key] != ours[key]:
            raise ModelError(
                f"{component} {file}: {key}", expected=f"{ours[key]}, as model {model} has", got=theirs[key]
            )


def _levels(config: Mapping[str, Any]) -> dict[str, int]:
    """How often a network halves sides, which the sizes of pictures follow from, where its configuration says so."""
    key = next((key for key in ("block_out_channels", "dim_mult") if key in config), None)
    return {} if key is None else {"levels": len(config[key])}


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Inside, numbers that a network computes for itself as it is built are in `dtype`, as diffusers loads them."""
    was = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(was)
