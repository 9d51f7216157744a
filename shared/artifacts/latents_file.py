"""Finished latents in a file, from before they are decoded: whatever happens then, sampling need not be done again.

One safetensors file beside the output, `<output>.latents.safetensors`: the tensor `latents`, "1 c h w" or "1 c t h w",
in float32, and the run record as metadata, which `shared.artifacts.run_record.read_record` reads.
"""

from __future__ import annotations

import os
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.artifacts.files import atomic_path
from shared.artifacts.media import TAG
from shared.artifacts.run_record import LATENTS_SUFFIX as SUFFIX
from shared.artifacts.run_record import RunRecord
from shared.errors import InputError

NAME = "latents"


def latents_path(output: str | os.PathLike[str]) -> Path:
    """Where the latents of `output` lie until it is written; an output "." has a name of its own, too."""
    path = Path(output)
    path = path if path.name else path.resolve()
    return path.with_name(path.name + SUFFIX)


def save_latents(path: Path, latents: Float[Tensor, "1 c *rest"], record: RunRecord) -> None:
    """Raises what `atomic_path` raises."""
    with atomic_path(path) as temporary:
        save_file({NAME: latents.detach().float().cpu().contiguous()}, temporary, {TAG: record.to_json()})


def load_latents(path: str | os.PathLike[str]) -> Float[Tensor, "1 c *rest"]:
    """The latents in a file. Raises InputError for another or a damaged one."""
    try:
        with safe_open(path, framework="pt") as opened:
            latents = opened.get_tensor(NAME)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"file {path}", expected=f"latents (*{SUFFIX})", got=str(error)) from error
    if latents.ndim not in (4, 5) or len(latents) != 1:
        raise InputError(f"file {path}", expected="latents of one clip or picture", got=list(latents.shape))
    return latents
