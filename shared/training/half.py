"""In which precision a stage computes: bfloat16 under autocast where the hardware has instructions for it.

Without them bfloat16 is emulated: on a CPU that knows AVX2 alone a training step takes 13 times as long as in float32.
"""

from __future__ import annotations

import torch

from shared.compute.torch_internals import cpu_multiplies_bfloat16


def in_half(precision: str, device: str | torch.device) -> bool:
    """Whether a recipe's `precision` ("auto", "bf16" or "fp32") is bfloat16 on `device`."""
    if precision != "auto":
        return precision == "bf16"
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_multiplies_bfloat16()


def autocast(precision: str, device: str | torch.device) -> torch.autocast:
    """What a stage's networks run under."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=in_half(precision, device))
