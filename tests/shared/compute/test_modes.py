"""Every mode against the plain network, networks left as they were, and refusals that say what to do."""

import pytest
import torch
from torch import nn

from shared.compute.modes import (
    RunNetwork,
    applied,
    checkpointed,
    compute_dtype,
    decode_dtype,
    load_device,
    offloaded,
    placed,
)
from shared.compute.policy import MemoryPolicy
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError, KinoformError
from shared.latents.codec import Codec
from tests.near import near
from tests.shared.latents.test_codec import pixels, tiny_kl
from tests.tiny import tiny_scheduler, tiny_unet, tiny_vae

SCHEDULE = NoiseSchedule.from_scheduler(tiny_scheduler())


def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([20, 900]), Conditioning(torch.randn(2, 6, 32))


@torch.no_grad()
def predict(policy, unet=None):
    """What a denoiser says under a policy."""
    plain = Denoiser(unet or tiny_unet(), SCHEDULE, "v_prediction")
    with applied(MemoryPolicy(**policy), "cpu", plain) as denoiser:
        return denoiser(*inputs()).v


def test_precision_by_device(monkeypatch):
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("shared.compute.modes.cpu_multiplies_bfloat16", lambda has=has: has)
        assert compute_dtype(MemoryPolicy(precision="fast"), "cpu") is dtype
        assert compute_dtype(MemoryPolicy(precision="fast"), "cuda") is torch.bfloat16
    assert compute_dtype(MemoryPolicy(), "cpu") is torch.float32
    assert compute_dtype(MemoryPolicy(), "cuda") is torch.bfloat16
    assert compute_dtype(MemoryPolicy(precision="fp16"), "cuda") is torch.float16
    half = MemoryPolicy(precision="fp16")
    assert decode_dtype(half, "cuda", tiny_kl(force_upcast=True)) is torch.float32  # it would overflow
    assert decode_dtype(half, "cuda", tiny_kl(force_upcast=False)) is torch.float16
    assert decode_dtype(half, "cuda", tiny_vae()) is torch.float16


def test_the_default_on_a_cpu_is_the_network_itself():
    plain = Denoiser(tiny_unet(), SCHEDULE, "v_prediction")
    with applied(MemoryPolicy(), "cpu", plain) as denoiser:
        assert denoiser is plain


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_comes_back_in_single(precision):
    unet = tiny_unet()
    seen = set()
    unet.conv_out.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    got, plain = predict({"precision": precision}, unet), predict({})
    assert seen == {compute_dtype(MemoryPolicy(precision=precision), "cpu")}
    assert got.dtype == torch.float32
    near(got, plain, torch.bfloat16)
    assert not torch.equal(got, plain)
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_does_not_leak_into_whoever_takes_the_states():
    plain = Denoiser(tiny_unet(), SCHEDULE, "v_prediction")
    with applied(MemoryPolicy(precision="bf16"), "cpu", plain):
        assert not torch.is_autocast_enabled("cpu")


def test_channels_last_changes_rounding_alone_and_is_undone():
    unet = tiny_unet()
    before = {name: parameter.stride() for name, parameter in unet.named_parameters()}
    with applied(MemoryPolicy(channels_last=True), "cpu", Denoiser(unet, SCHEDULE, "v_prediction")) as denoiser:
        assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            got = denoiser(*inputs()).v
    assert {name: parameter.stride() for name, parameter in unet.named_parameters()} == before
    near(got, predict({}))
    assert torch.equal(predict({}, unet), predict({}))


def test_networks_are_as_they_were_after_an_error():
    unet = tiny_unet()
    with pytest.raises(ZeroDivisionError), placed(MemoryPolicy(channels_last=True), "cpu", [unet]):
        raise ZeroDivisionError
    assert unet.conv_in.weight.is_contiguous()


@pytest.mark.parametrize("mode", ["model", "group"])
def test_offloading_without_a_gpu_is_refused(mode):
    for call in (
        lambda: load_device(MemoryPolicy(offload=mode), "cpu"),
        lambda: predict({"offload": mode}),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == (
            f"offload: expected none without a GPU, got {mode}. There is no GPU memory to save"
        )
    assert load_device(MemoryPolicy(offload=mode), "cuda") == "cpu"
    assert load_device(MemoryPolicy(), "cuda") == "cuda"


@torch.no_grad()
@pytest.mark.parametrize("mode", ["model", "group"])
def test_offloaded_networks_compute_the_same_and_the_hooks_go(mode):
    """On a machine without a GPU main memory itself is the device: the hooks run, and nothing has to move."""
    unet, vae = tiny_unet(), tiny_vae()
    plain, z = Denoiser(unet, SCHEDULE, "v_prediction"), torch.randn(1, 4, 8, 8)
    wanted = plain(*inputs()).v, Codec(vae).decode(z)
    forwards = [module.forward.__func__ for module in (unet, vae)]
    with offloaded([unet, vae], mode, "cpu"):
        assert torch.equal(plain(*inputs()).v, wanted[0])
        assert torch.equal(Codec(vae).decode(z), wanted[1])
    assert not any(hasattr(module, "_hf_hook") for module in (unet, vae))
    assert [getattr(module.forward, "__func__", None) for module in (unet, vae)] == forwards
    assert torch.equal(plain(*inputs()).v, wanted[0])


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x_t, t, encoder_hidden_states):
        return self.linear(x_t) + encoder_hidden_states.sum()


def test_a_machine_that_cannot_compile_says_so(monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def no_compiler(*_, **__):
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", lambda call: no_compiler)
    network = RunNetwork(Doubling(), torch.float32, compiled=True)
    with pytest.raises(KinoformError) as caught:
        network(torch.ones(2, 4), torch.zeros(2), encoder_hidden_states=torch.ones(1))
    assert str(caught.value).startswith("compile: expected a machine that torch.compile works on")
    assert str(caught.value).endswith("Leave compile off")


def test_an_error_of_the_network_itself_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call: call)
    network = RunNetwork(Doubling(), torch.float32, compiled=True)
    with pytest.raises(RuntimeError, match="shapes"):
        network(torch.ones(2, 5), torch.zeros(2), encoder_hidden_states=torch.ones(1))


def test_a_compiled_network_computes_the_same(monkeypatch):
    """Compiled for torch's own executor, which needs no C++ compiler: what is traced is what there was."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call: compile_(call, backend="eager"))
    network = Doubling()
    x, tokens = torch.randn(2, 4), torch.randn(2, 3, 5)
    wanted = network(x, torch.zeros(2), encoder_hidden_states=tokens)
    near(RunNetwork(network, torch.float32, compiled=True)(x, torch.zeros(2), encoder_hidden_states=tokens), wanted)


@pytest.mark.parametrize("make", [tiny_vae, tiny_kl])
def test_checkpointed_gradients_are_the_same_and_less_is_kept(make):
    vae = make()
    found = []
    for on in (False, True):
        image, kept = pixels(2, 3, 16, 16).requires_grad_(), 0

        def count(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with checkpointed(vae, on):
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                codec = Codec(vae)
                loss = codec.decode(codec.encode(image)).square().sum()
            loss.backward()
        found.append((loss.detach(), image.grad, kept))
    plain, checkpointed_ = found
    assert torch.equal(plain[0], checkpointed_[0])
    near(checkpointed_[1], plain[1])
    assert checkpointed_[2] < plain[2] / 2
    assert not any("forward" in vars(module) for module in vae.modules())
