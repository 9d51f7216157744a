import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import ModelError
from tests.near import near
from tests.tiny import tiny_scheduler, tiny_unet

DIFFUSION = NoiseSchedule.from_scheduler(DDIMScheduler(rescale_betas_zero_snr=True))
FLOW = NoiseSchedule.from_scheduler(FlowMatchEulerDiscreteScheduler())
MEAN, VARIANCE = 0.7, 0.4


def exact(schedule, x_t, t):
    """The posterior means of x0, eps and v for x0 ~ N(MEAN, VARIANCE): conditionals of a joint Gaussian."""
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    alpha, sigma = schedule.alpha(t).view(shape), schedule.sigma(t).view(shape)
    centred = (x_t - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2)
    x0, eps = MEAN + alpha * VARIANCE * centred, sigma * centred
    v = eps - x0 if schedule.is_flow else alpha * eps - sigma * x0
    return {"sample": x0, "epsilon": eps, "v_prediction": v, "flow": v}


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3, 5, 2, 2)], ids=["images", "frames"])
@pytest.mark.parametrize(
    ("schedule", "prediction_type"),
    [
        (DIFFUSION, "epsilon"),
        (DIFFUSION, "v_prediction"),
        (DIFFUSION, "sample"),
        (FLOW, "flow"),
        (FLOW, "sample"),
        (FLOW, "epsilon"),
    ],
)
def test_every_parameterisation_tells_the_same_truth(schedule, prediction_type, shape):
    x_t = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([50, 300, 700, 900])
    denoiser = Denoiser(lambda x, t, _: exact(schedule, x, t)[prediction_type], schedule, prediction_type)
    prediction, wanted = denoiser(x_t, t), exact(schedule, x_t, t)
    # The schedule itself is single precision.
    near(prediction.x0, wanted["sample"], torch.float32)
    near(prediction.eps, wanted["epsilon"], torch.float32)
    near(prediction.v, wanted["flow" if schedule.is_flow else "v_prediction"], torch.float32)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_pure_noise_is_understood(prediction_type):
    x_t, t = torch.randn(2, 3, 2, 2), torch.tensor([999, 999])
    prediction = Denoiser(lambda x, t, _: exact(DIFFUSION, x, t)[prediction_type], DIFFUSION, prediction_type)(x_t, t)
    near(prediction.x0, torch.full_like(x_t, MEAN))
    near(prediction.eps, x_t)
    near(prediction.v, torch.full_like(x_t, -MEAN))


def test_a_diffusers_unet_gets_its_arguments_and_its_dtype():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, cross_attention_dim=6, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    x_t, t, text = torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), torch.randn(2, 3, 6)
    with torch.no_grad():
        wanted = unet(x_t, t, encoder_hidden_states=text).sample
        assert torch.equal(Denoiser(unet, DIFFUSION, "v_prediction")(x_t, t, Conditioning(text)).v, wanted)
        half = Denoiser(unet.to(torch.bfloat16), DIFFUSION, "v_prediction")(x_t, t, Conditioning(text))
    assert half.v.dtype == half.x0.dtype == torch.float32
    near(half.v, wanted, torch.bfloat16)


def test_gradients_reach_x_t():
    x_t = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([300, 600])
    Denoiser(lambda x, t, _: exact(DIFFUSION, x, t)["v_prediction"], DIFFUSION, "v_prediction")(
        x_t, t
    ).x0.sum().backward()
    alpha, sigma = DIFFUSION.alpha(t).double(), DIFFUSION.sigma(t).double()
    slope = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)  # d E[x0 | x_t] / d x_t
    near(x_t.grad, slope.view(2, 1, 1, 1).expand_as(x_t), torch.float32)


def test_impossible_combinations_are_refused():
    for schedule, prediction_type in ((DIFFUSION, "flow"), (FLOW, "v_prediction"), (FLOW, "noise")):
        with pytest.raises(ModelError):
            Denoiser(lambda x, t, c: x, schedule, prediction_type)


def test_weights_stored_in_eight_bits_are_computed_with_in_the_dtype_asked_for():
    """diffusers' layerwise casting; the first parameter's dtype is not that of the computation."""
    unet, x, t = tiny_unet(), torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    text = torch.randn(2, 7, 32)
    schedule = NoiseSchedule.from_scheduler(tiny_scheduler())
    with torch.no_grad():
        wanted = Denoiser(unet, schedule, "v_prediction").outputs(x, t, Conditioning(text)).output
        unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
        assert any(weight.dtype == torch.float8_e4m3fn for weight in unet.parameters())
        for network in (unet, Wrapped(unet)):
            got = Denoiser(network, schedule, "v_prediction").outputs(x, t, Conditioning(text)).output
            assert got.dtype == torch.float32
            assert (got - wanted).std() < 0.15 * wanted.std()


class Wrapped(torch.nn.Module):
    """A module round a network, as windows are."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x_t, t, encoder_hidden_states):
        return self.network(x_t, t, encoder_hidden_states=encoder_hidden_states).sample
