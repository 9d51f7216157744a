"""Another autoencoder or UNet in the place of a model's own: what the two must have in common, and how it is loaded.

A file with diffusers' `config.json` beside it says what it is. Any other is taken to be like the part that it replaces.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from shared.errors import ModelError
from shared.models.parts import UNETS, VAES, load_files
from shared.models.weight_files import named_files, read_json

CLASSES: Mapping[str, Mapping[str, Any]] = {"vae": VAES, "unet": UNETS}
Config = Mapping[str, Any]


def _factor(config: Config) -> int:
    return 2 ** (len(config.get("encoder_block_out_channels") or config["block_out_channels"]) - 1)


# What the other parts of a model rely on: its name, and where a configuration has it.
RELIED_ON: Mapping[str, Mapping[str, str | Callable[[Config], Any]]] = {
    "vae": {"latent channels": "latent_channels", "pixels a latent": _factor},
    "unet": {
        "latent channels": "in_channels",
        "output channels": "out_channels",
        "text width": "cross_attention_dim",
        "added conditions": "addition_embed_type",
        "class labels": "num_class_embeds",
    },
}


def load_replacement(
    component: str, file: Path, own: Config, model: str, device: str | torch.device, dtype: torch.dtype
) -> Any:
    """The network in `file`, frozen, that takes the place of a component of `model`: "vae" or "unet".

    own: the configuration of what it replaces, with its class as `_class_name`. An autoencoder is never in float16.
    Raises ModelError, which names both, for one that the rest of the model does not go with; else as `load_part` does.
    """
    if file.suffix == ".gguf":
        raise ModelError(
            f"{component} {file}", expected="a .safetensors file", got="GGUF, which the core does not read"
        )
    beside = config_beside(file)
    config = own if beside is None else beside
    network_class = CLASSES[component].get(str(config["_class_name"]))
    if network_class is None:
        raise ModelError(f"{component} {file}", expected=" or ".join(CLASSES[component]), got=config["_class_name"])
    _check_same(component, file, _whole(config), _whole(own), model)
    if component == "vae" and dtype is torch.float16:
        dtype = torch.float32
    try:
        return load_files(network_class, dict(config), named_files(file), file, device, dtype)
    except ModelError as error:
        if beside is None:
            error.hint = f"Without a config.json beside it, it has to be like the {component} of model {model}"
        raise


def config_beside(file: Path) -> dict[str, Any] | None:
    """What diffusers keeps beside a network's weights; None where there is none."""
    beside = file.with_name("config.json")
    config = read_json(beside) if beside.is_file() else {}
    return config if "_class_name" in config else None


def _whole(config: Config) -> Config:
    """A configuration with the defaults of its class for what it leaves out."""
    network_class = next(known[name] for known in CLASSES.values() if (name := config["_class_name"]) in known)
    parameters = inspect.signature(network_class.__init__).parameters.values()
    return {**{each.name: each.default for each in parameters if each.default is not each.empty}, **config}


def _check_same(component: str, file: Path, config: Config, own: Config, model: str) -> None:
    for what, where in RELIED_ON[component].items():
        got, wanted = (each[where] if isinstance(where, str) else where(each) for each in (config, own))
        if got != wanted:
            raise ModelError(f"{component} {file}: {what}", expected=f"{wanted}, as model {model} has", got=got)
