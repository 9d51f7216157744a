"""One call for every denoising network: `(x_t, t, conditioning) -> Prediction`.

x_t, x0, eps, v as in `shared.schedule`. Samplers and score distillation see nothing but this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shared.errors import ModelError
from shared.schedule import NoiseSchedule

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow")


@dataclass(frozen=True)
class Prediction:
    """What a network says about x_t, in all three forms; any two of x_t and these determine the others."""

    eps: Float[Tensor, "b ..."]
    x0: Float[Tensor, "b ..."]
    v: Float[Tensor, "b ..."]


class Denoiser:
    """Wraps a network of any parameterisation.

    network: a diffusers UNet (anything whose forward takes `encoder_hidden_states`), or any callable
        `(x_t, t, conditioning) -> Tensor`.
    prediction_type: what the network returns: "epsilon", "v_prediction", "sample" (x0), or "flow" (eps - x0). The
        first three are diffusers' names.

    Raises ModelError for another type, or one that does not go with the schedule.
    """

    def __init__(self, network: Callable[..., Any], schedule: NoiseSchedule, prediction_type: str) -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise ModelError("prediction type", expected=", ".join(PREDICTION_TYPES), got=prediction_type)
        if (prediction_type == "flow" and not schedule.is_flow) or (
            prediction_type == "v_prediction" and schedule.is_flow
        ):
            wanted = "flow" if schedule.is_flow else "v_prediction"
            raise ModelError("prediction type", expected=f"{wanted} for this noise schedule", got=prediction_type)
        self.network = network
        self.schedule = schedule
        self.prediction_type = prediction_type
        forward = network.forward if isinstance(network, nn.Module) else network
        self._by_keyword = "encoder_hidden_states" in inspect.signature(forward).parameters

    def __call__(
        self,
        x_t: Float[Tensor, "b ..."],
        t: Shaped[Tensor, " b"],
        conditioning: Float[Tensor, "b n d"] | None = None,
        **extra: Any,
    ) -> Prediction:
        """x_t: images "b c h w" or frames "b c t h w"; t: timesteps "b"; `extra` goes to the network as it is."""
        return self.prediction(x_t, t, self.output(x_t, t, conditioning, **extra))

    def output(
        self,
        x_t: Float[Tensor, "b ..."],
        t: Shaped[Tensor, " b"],
        conditioning: Float[Tensor, "b n d"] | None = None,
        **extra: Any,
    ) -> Float[Tensor, "b ..."]:
        """What the network itself returns, computed in the network's dtype and given in x_t's."""
        dtype = _dtype_of(self.network, x_t.dtype)
        conditioning = None if conditioning is None else conditioning.to(dtype)
        if self._by_keyword:
            result = self.network(x_t.to(dtype), t, encoder_hidden_states=conditioning, **extra)
        else:
            result = self.network(x_t.to(dtype), t, conditioning, **extra)
        return (result if isinstance(result, Tensor) else result.sample).to(x_t.dtype)

    def prediction(
        self, x_t: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"], output: Float[Tensor, "b ..."]
    ) -> Prediction:
        """The three forms of a network output."""
        schedule = self.schedule
        if self.prediction_type == "epsilon":
            x0 = schedule.x0_from_eps(x_t, output, t)
            return Prediction(eps=output, x0=x0, v=schedule.velocity(x0, output, t))
        if self.prediction_type == "sample":
            eps = schedule.eps_from_x0(x_t, output, t)
            return Prediction(eps=eps, x0=output, v=schedule.velocity(output, eps, t))
        return Prediction(eps=schedule.eps_from_v(x_t, output, t), x0=schedule.x0_from_v(x_t, output, t), v=output)


def _dtype_of(network: Callable[..., Any], default: torch.dtype) -> torch.dtype:
    """What the network computes in. Weights may be stored in fewer bits than that (diffusers' layerwise casting), which
    its models' `dtype` knows; the first parameter's does not."""
    if isinstance(network, nn.Module):
        for module in network.modules():
            dtype = getattr(module, "dtype", None)
            if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
                return dtype
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return default
