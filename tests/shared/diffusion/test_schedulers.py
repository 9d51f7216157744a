"""Every scheduler of diffusers that can be made from the model's configuration samples, or is refused in one line."""

import inspect

import diffusers
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.sampling import sample
from shared.diffusion.schedule import NoiseSchedule, prediction_type_of
from shared.diffusion.schedulers import check_sampler, named_scheduler, scheduler_names, set_steps
from shared.errors import InputError, KinoformError
from tests.tiny import tiny_scheduler, tiny_unet

ALL = {
    name: kind
    for name, kind in inspect.getmembers(diffusers, inspect.isclass)
    if name.endswith("Scheduler") and issubclass(kind, SchedulerMixin)
}
OTHERS = {
    "AmusedScheduler",
    "RFD4ProteinaScheduler",
    "UnCLIPScheduler",
    "VQDiffusionScheduler",
}  # want more than a config
SAMPLE = {
    "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LCMScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler", "TCDScheduler",
    "UniPCMultistepScheduler",
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return tiny_unet(block_out_channels=(8, 8), cross_attention_dim=8)


def run(network, scheduler, steps):
    schedule = NoiseSchedule.from_scheduler(tiny_scheduler())
    told = Conditioning(torch.zeros(1, 2, 8))
    *_, last = sample(
        Denoiser(network, schedule, "v_prediction"), scheduler, shape=(4, 8, 8), seeds=[1], conditioning=told,
        steps=steps,
    )  # fmt: skip
    return last.latents


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_each_samples_or_is_refused_in_one_line(network, name, steps):
    try:
        scheduler = ALL[name].from_config(tiny_scheduler().config)
    except (TypeError, ValueError):
        assert name in OTHERS
        return
    if name in SAMPLE and not (name == "PNDMScheduler" and steps < 4):
        latents = run(network, scheduler, steps)
        assert latents.isfinite().all()
        assert 0.05 < latents.std() < 3
    else:
        with pytest.raises(InputError, match=r"^[^\n]*expected [^\n]*, got [^\n]*$"):
            run(network, scheduler, steps)


def test_a_refusal_names_what_would_do(network):
    with pytest.raises(InputError, match=r"EulerDiscreteScheduler.* got a noise schedule of its own"):
        run(network, EDMEulerScheduler.from_config(tiny_scheduler().config), 3)
    with pytest.raises(InputError, match="expected 4 with PNDMScheduler, got 3"):
        run(network, PNDMScheduler.from_config(tiny_scheduler().config), 3)
    with pytest.raises(InputError, match="expected 1000 with DDIMScheduler, got 1001"):
        run(network, tiny_scheduler(), 1001)
    with pytest.raises(InputError, match="expected 1000 with DDIMScheduler, got 5000"):
        run(network, tiny_scheduler(), 5000)
    with pytest.raises(InputError, match="expected 1 with DDIMScheduler, got 0"):
        run(network, tiny_scheduler(), 0)


def test_the_number_that_is_named_works():
    scheduler = PNDMScheduler.from_config(tiny_scheduler().config)
    assert len(set_steps(scheduler, 4, "cpu")) >= 4


def test_flow_and_diffusion_are_not_mixed():
    flow, diffusion = FlowMatchEulerDiscreteScheduler(), tiny_scheduler()
    with pytest.raises(InputError, match="rectified flow"):
        check_sampler(flow, NoiseSchedule.from_scheduler(diffusion))
    with pytest.raises(InputError, match="rectified flow"):
        check_sampler(diffusion, NoiseSchedule.from_scheduler(flow))
    with pytest.raises(KinoformError, match="rectified flow"):
        NoiseSchedule.from_scheduler(FlowMatchEulerDiscreteScheduler.from_config(diffusion.config))
    both = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    check_sampler(both, NoiseSchedule.from_scheduler(flow))
    assert NoiseSchedule.from_scheduler(FlowMatchEulerDiscreteScheduler.from_config(both.config)).is_flow


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler])
def test_a_configuration_that_does_not_say_predicts_noise(kind):
    scheduler = kind()
    for missing in (False, True):
        config = dict(scheduler.config)
        if missing:
            del config["prediction_type"]
        scheduler._internal_dict = diffusers.configuration_utils.FrozenDict(config)
        assert prediction_type_of(scheduler) == "epsilon"
    assert prediction_type_of(FlowMatchEulerDiscreteScheduler()) == "flow"


def offered(name, own):
    with pytest.raises(InputError) as raised:
        named_scheduler(name, own)
    return str(raised.value.expected).split(", "), raised.value


def test_only_what_can_be_used_is_offered_and_all_of_it_samples(network):
    names, error = offered("euler-a", tiny_scheduler())
    assert {scheduler_names()[name.replace("-", "")].__name__ for name in names} == SAMPLE
    assert (error.got, error.hint) == ("euler-a", "Did you mean euler-discrete?")


@pytest.mark.parametrize("name", ["ddim", "dpm-solver-multistep", "euler-ancestral-discrete"])
def test_a_model_of_rectified_flow_is_offered_flow_matching_alone(name):
    names, error = offered(name, FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert names == ["flow-match-euler-discrete", "flow-match-heun-discrete", "flow-match-lcm"]
    assert error.what == f"scheduler {name}"
    assert "with a model of rectified flow" in str(error)
    for usable in names:
        assert named_scheduler(usable, FlowMatchEulerDiscreteScheduler(shift=3.0)).config["shift"] == 3.0


def test_a_model_of_diffusion_is_offered_none_for_flow():
    names, error = offered("flow-match-euler-discrete", tiny_scheduler())
    assert not [name for name in names if name.startswith("flow")]
    assert error.got == "one for rectified flow"
    assert error.hint == "Did you mean euler-discrete?"


def test_schedulers_of_both_worlds_are_known_by_their_configuration():
    both = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    names, _ = offered("ddim", both)
    assert {"flow-match-euler-discrete", "dpm-solver-multistep"} <= set(names)
    assert "euler-discrete" not in names


def test_a_shifted_noise_schedule_stays_among_its_own():
    assert isinstance(named_scheduler("CogVideoXDPMScheduler", CogVideoXDDIMScheduler()), CogVideoXDPMScheduler)
    names, error = offered("ddim", CogVideoXDDIMScheduler())
    assert names == ["cog-video-xddim", "cog-video-xdpm"]
    assert "noise schedule of its own" in str(error)
