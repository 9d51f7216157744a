"""All that is used of torch without being its public API, so that a new torch is tried against one list."""

import torch.cpu
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as without_modes
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

__all__ = [
    "FakeTensorMode",
    "TorchDispatchMode",
    "cpu_multiplies_bfloat16",
    "detect_fake_mode",
    "flop_registry",
    "tree_iter",
    "without_modes",
]


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
