"""What a `MemoryPolicy` does to networks: precision, place, layout, compilation, checkpointing.

    with applied(policy, device, model.denoiser, before=[text_encoder]) as denoiser:
        ...                     # sample with the denoiser that comes out

Networks are as they were when the block ends, so that one loaded model serves runs of different policies. Precision is
autocast's: convolutions and matrix products in `compute_dtype`, norms and sums in float32 by autocast's own rules, the
scheduler's steps in float32 always. With the default policy on a CPU nothing is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderTiny, ModelMixin
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.compute.execution import execution_device
from shared.compute.policy import MemoryPolicy
from shared.compute.torch_internals import cpu_multiplies_bfloat16
from shared.diffusion.denoiser import Denoiser
from shared.errors import KinoformError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Device = str | torch.device


def compute_dtype(policy: MemoryPolicy, device: Device) -> torch.dtype:
    """What networks compute in on `device`, and what their weights may be loaded in."""
    if policy.precision in ("auto", "fast"):
        half = torch.device(device).type == "cuda" or (policy.precision == "fast" and cpu_multiplies_bfloat16())
        return torch.bfloat16 if half else torch.float32
    return DTYPES[policy.precision]


def decode_dtype(policy: MemoryPolicy, device: Device, vae: ModelMixin) -> torch.dtype:
    """The same for a decoder: float32 for one that float16 overflows, which its configuration says."""
    dtype = compute_dtype(policy, device)
    return torch.float32 if dtype is torch.float16 and vae.config.get("force_upcast") else dtype


def load_device(policy: MemoryPolicy, device: Device) -> Device:
    """Where to load a model that will run on `device`: main memory, where it is offloaded to.

    Raises InputError where the policy asks for what `device` cannot do.
    """
    policy.check_device(torch.device(device).type)
    return device if policy.offload == "none" else "cpu"


@contextmanager
def placed(policy: MemoryPolicy, device: Device, networks: Sequence[nn.Module]) -> Iterator[Device]:
    """While the block lasts, `networks` lie where and how the policy says; gives the device that they compute on.

    networks: in the order in which they run; none of them inside a gradient, for an offloaded one has no weights then.
    Raises InputError for what `device` cannot do.
    """
    load_device(policy, device)
    with ExitStack() as stack:
        if policy.channels_last:
            stack.enter_context(_channels_last(networks))
        if policy.offload != "none":
            stack.enter_context(offloaded(networks, policy.offload, device))
        yield device


@contextmanager
def applied(
    policy: MemoryPolicy, device: Device, denoiser: Denoiser, *, before: Sequence[nn.Module] = ()
) -> Iterator[Denoiser]:
    """The denoiser to use under `policy`. Inside, its network and those that run `before` it are `placed`.

    Raises what `placed` does.
    """
    network = denoiser.network
    assert isinstance(network, nn.Module), "a function has no weights to place"
    with placed(policy, device, [*before, network]):
        if policy.offload != "none":
            denoiser = Denoiser(network, denoiser.schedule.to(device), denoiser.prediction_type)
        dtype = compute_dtype(policy, device)
        if policy.compile or dtype is not torch.float32:
            run = RunNetwork(network, dtype, compiled=policy.compile)
            denoiser = Denoiser(run, denoiser.schedule, denoiser.prediction_type)
        yield denoiser


def run_alike(denoiser: Denoiser, network: nn.Module) -> Denoiser:
    """A denoiser around `network`, in the precision of one that `applied` gave, and compiled as that is.

    network: all of its weights are among those that the other runs on, so that they are in place.
    """
    run = denoiser.network
    if isinstance(run, RunNetwork):
        network = RunNetwork(network, run.dtype, compiled=run.compiled)
    return Denoiser(network, denoiser.schedule, denoiser.prediction_type)


class RunNetwork(nn.Module):
    """A denoising network under autocast to `dtype` (float32: none), compiled where asked for.

    Raises KinoformError where this machine cannot compile it.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, compiled: bool = False) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.compiled = compiled
        # Not the module that torch.compile returns for a module: it would be a second one with the same weights.
        self._run: Callable[..., Any] = torch.compile(network.forward) if compiled else network

    def forward(self, x_t: Tensor, t: Tensor, encoder_hidden_states: Tensor | None = None, **extra: Any) -> Any:
        with torch.autocast(x_t.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            try:
                return self._run(x_t, t, encoder_hidden_states=encoder_hidden_states, **extra)
            except Exception as error:
                if not self.compiled or not _is_compiler_error(error):
                    raise
                raise KinoformError(
                    "compile",
                    expected="a machine that torch.compile works on (a C++ compiler; for a GPU, Triton)",
                    got=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
                    hint="Leave compile off",
                ) from error


def _is_compiler_error(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


@contextmanager
def checkpointed(network: Any, on: bool) -> Iterator[None]:
    """Inside, gradients through a diffusers network keep only what enters its blocks, and compute the rest again."""
    if not on or not any(True for _ in network.parameters()):
        yield
    elif isinstance(network, AutoencoderTiny):
        # Its own checkpointing forgets to scale the pixels that go into the encoder (diffusers 0.38 to 0.42).
        with checkpointed_blocks(module for module in network.modules() if isinstance(module, AutoencoderTinyBlock)):
            yield
    else:
        network.enable_gradient_checkpointing()
        try:
            yield
        finally:
            network.disable_gradient_checkpointing()


@contextmanager
def checkpointed_blocks(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """The same for given blocks of any network."""
    found = list(blocks)
    for block in found:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in found:
            del block.forward


@contextmanager
def moved(network: nn.Module, device: Device) -> Iterator[None]:
    """Inside, the network lies on `device`: one that gradients go through cannot be offloaded."""
    before = execution_device(network)
    network.to(device)
    try:
        yield
    finally:
        network.to(before)


@contextmanager
def _channels_last(networks: Sequence[Any]) -> Iterator[None]:
    for network in networks:
        network.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for network in networks:
            network.to(memory_format=torch.contiguous_format)


@contextmanager
def offloaded(networks: Sequence[nn.Module], mode: str, device: Device) -> Iterator[None]:
    """Inside, the networks lie in main memory and come to `device` while they run: "model", one network after the other
    (accelerate's hooks); "group", one layer after the other (diffusers' hooks)."""
    with ExitStack() as stack:
        if mode == "model":
            from accelerate import cpu_offload_with_hook

            before = None
            for network in networks:
                _, before = cpu_offload_with_hook(network, torch.device(device), prev_module_hook=before)
                stack.callback(before.remove)
                stack.callback(before.offload)
        else:
            from diffusers.hooks import HookRegistry, apply_group_offloading

            for network in networks:
                apply_group_offloading(network, onload_device=torch.device(device), offload_type="leaf_level")
                registry = HookRegistry.check_if_exists_or_initialize(network)
                stack.callback(registry.remove_hook, "group_offloading", recurse=True)
        yield
