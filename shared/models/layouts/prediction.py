"""What the UNet of a single file predicts: the noise, or the velocity v. The tensors are the same for both.

Said by the file's metadata, a marker among its tensors, or a configuration beside it. Where nothing says it,
`shared.models.layouts.single_file.probed` asks the network itself. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.errors import ModelError, one_line
from shared.models.layouts.family import Header

EPSILON, V = "epsilon", "v_prediction"
WORDS = {"epsilon": EPSILON, "eps": EPSILON, "v": V, "v_prediction": V}
METADATA = ("modelspec.prediction_type", "modelspec.predict_key")  # of the model specification 1.0
V_MARKER, ZERO_SNR_MARKER = "v_pred", "ztsnr"  # tensors that say by being there
MAX_YAML_BYTES = 100_000


def said(file: Path, header: Header, metadata: Mapping[str, str]) -> str | None:
    """What is said of the prediction; None where nothing is. Raises ModelError for a configuration that is broken."""
    for key in METADATA:
        if metadata.get(key, "").lower() in WORDS:
            return WORDS[metadata[key].lower()]
    if V_MARKER in header:
        return V
    beside = file.with_suffix(".yaml")
    if beside.is_file():
        word = _parameterization(beside)
        if word not in (None, *WORDS):
            raise ModelError(f"{beside}: parameterization", expected="eps or v", got=word)
        return WORDS[word] if word else EPSILON  # the original code's own default
    return None


def _parameterization(file: Path) -> Any:
    """`model.params.parameterization` of an original configuration; None where it has none."""
    try:
        if file.stat().st_size > MAX_YAML_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes")
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
        for key in ("model", "params"):
            value = value[key]
        return value.get("parameterization")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(
            f"configuration {file}", expected="Stable Diffusion's, with model.params", got=one_line(str(error))
        ) from error
