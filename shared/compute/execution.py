"""Where a network computes, which is not always where its weights lie: offloading keeps those elsewhere in between."""

from __future__ import annotations

import torch
from torch import nn


def execution_device(network: nn.Module) -> torch.device:
    """Where to send a network's inputs: accelerate's hooks say so where they move its weights, which are on "meta"
    between the calls of sequential offloading; else where its first weight is."""
    for module in network.modules():
        outer = getattr(module, "_hf_hook", None)
        for hook in getattr(outer, "hooks", (outer,)):  # several hooks of one module are one, with a list of them
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))
