"""Which device to compute on: the one decision of its kind, made here and passed down."""

from __future__ import annotations

from shared.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def check(name: str) -> str:
    """Refuse a name that is no device, before torch is imported."""
    if name not in DEVICES:
        raise InputError("--device", expected="auto, cpu or cuda", got=name)
    return name


def pick(name: str) -> str:
    """`cuda` when it is asked for or, under `auto`, when it is there; else `cpu`. Raises InputError without a GPU."""
    import torch

    if check(name) == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise InputError(
            "--device", expected="cpu or auto", got="cuda", hint="This torch sees no CUDA GPU; see: kinoform doctor"
        )
    return "cpu"
