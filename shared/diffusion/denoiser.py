"""One call for every denoising network: `(x_t, t, conditioning) -> Prediction`.

x_t, x0, eps, v as in `shared.diffusion.schedule`. Samplers and score distillation see nothing but this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import ModelError

# What diffusers' UNets need by their `addition_embed_type`.
ADDED = {None: frozenset(), "text": frozenset(), "text_time": frozenset({"text_embeds", "time_ids"})}
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow")


@dataclass(frozen=True)
class Prediction:
    """What a network says about x_t, in all three forms; any two of x_t and these determine the others."""

    eps: Float[Tensor, "b ..."]
    x0: Float[Tensor, "b ..."]
    v: Float[Tensor, "b ..."]


@dataclass(frozen=True)
class Outputs:
    """What a denoiser's network returns, guided or not, in the network's own parameterisation.

    conditional: without guidance; `output` itself where there is none.
    """

    output: Float[Tensor, "b ..."]
    conditional: Float[Tensor, "b ..."]


class Denoiser:
    """Wraps a network of any parameterisation.

    network: a diffusers UNet (anything whose forward takes `encoder_hidden_states`), or any callable
        `(x_t, t, text states or None) -> Tensor`.
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
        parameters = inspect.signature(forward).parameters
        self._by_keyword = "encoder_hidden_states" in parameters
        anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        self._takes = None if anything else frozenset(parameters)

    def __call__(
        self, x_t: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"], conditioning: Conditioning = NOTHING
    ) -> Prediction:
        """x_t: images "b c h w" or frames "b c t h w"; t: timesteps "b".

        Raises ModelError where the conditioning lacks what the network needs, or says what it does not know.
        """
        return self.prediction(x_t, t, self.outputs(x_t, t, conditioning).output)

    def outputs(
        self, x_t: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"], conditioning: Conditioning = NOTHING
    ) -> Outputs:
        """What the network itself returns, computed in the network's dtype and given in x_t's."""
        dtype = _dtype_of(self.network, x_t.dtype)
        conditioning = conditioning.expand(len(x_t))
        x = x_t.to(dtype)
        if conditioning.beside is not None:
            x = torch.cat([x, conditioning.beside.to(dtype)], dim=1)
        wanted = getattr(self.network, "config", {}).get("in_channels", x.shape[1])
        if x.shape[1] != wanted:
            raise ModelError("channels of the latents and of what lies beside them", expected=wanted, got=x.shape[1])
        text = None if conditioning.text is None else conditioning.text.to(dtype)
        told = self._told(conditioning, dtype)
        if self._by_keyword:
            result = self.network(x, t, encoder_hidden_states=text, **told)
        else:
            result = self.network(x, t, text, **told)
        output = (result if isinstance(result, Tensor) else result.sample).to(x_t.dtype)
        return Outputs(output, output)

    def _told(self, conditioning: Conditioning, dtype: torch.dtype) -> dict[str, Any]:
        """What the network is told beside text, by its own names. Sizes and moments keep their precision."""
        added = dict(conditioning.added)
        if conditioning.pooled is not None:
            added["text_embeds"] = conditioning.pooled.to(dtype)
        needed = needs(self.network)
        if needed is not None and added.keys() != needed:
            raise ModelError("conditions added to the text", expected=_listed(needed), got=_listed(added))
        if labelled(self.network) not in (None, conditioning.labels is not None):
            given = "none" if conditioning.labels is None else "some"
            raise ModelError("class labels", expected="none" if given == "some" else "one a sample", got=given)
        told = {**conditioning.frames, **({"added_cond_kwargs": added} if added else {})}
        told |= {} if conditioning.labels is None else {"class_labels": conditioning.labels}
        if self._takes is not None and not told.keys() <= self._takes:
            raise ModelError("conditions that the network takes", expected=_listed(self._takes), got=_listed(told))
        return told

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


def needs(network: object) -> frozenset[str] | None:
    """Conditions beside the text that a network wants, all of them and no others, by diffusers' names; None where its
    configuration does not tell."""
    config = getattr(network, "config", {})
    return ADDED.get(config["addition_embed_type"]) if "addition_embed_type" in config else None


def labelled(network: object) -> bool | None:
    """Whether a network wants a class of each sample; None where its configuration does not tell."""
    config = getattr(network, "config", {})
    kinds = [config[key] for key in ("num_class_embeds", "class_embed_type") if key in config]
    return any(kind is not None for kind in kinds) if kinds else None


class WrappedDenoiser(Denoiser):
    """A denoiser that asks another one, perhaps several times. Subclasses say how, in `outputs`."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner
        self.network = inner.network
        self.schedule = inner.schedule
        self.prediction_type = inner.prediction_type

    def outputs(
        self, x_t: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"], conditioning: Conditioning = NOTHING
    ) -> Outputs:
        raise NotImplementedError


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


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
