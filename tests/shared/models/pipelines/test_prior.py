from dataclasses import replace

import pytest
import torch

from dreamfusion.distill import distill
from dreamfusion.recipe import AssetRecipe
from shared.diffusion.guidance import ClassifierFree
from shared.diffusion.sampling import sample
from shared.errors import ModelError
from shared.models.pipelines.classes import DISTILLED
from shared.models.pipelines.load import load_pipeline
from shared.models.pipelines.prior import PRIORS, PipelinePrior, prior_of
from shared.rng import generator
from tests.shared.models.pipelines.tiny.table import TINY

SEED, SCALE = 3, 4.0
STEPS = {"StableDiffusion3Pipeline": 3, "PixArtSigmaPipeline": 3, "FluxPipeline": 1}  # Flux spaces several otherwise
PROMPT = "a red cube"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Each class once."""
    made = {}

    def model(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("model") / name
            TINY[name].build().save_pretrained(folder)
            made[name] = load_pipeline(folder)
        return made[name]

    return model


def own_latents(model, name, side):
    """What the class itself samples, from the noise of the seed."""
    guidance = {"true_cfg_scale": SCALE, "negative_prompt": ""} if name == "FluxPipeline" else {"guidance_scale": SCALE}
    values = {"height": side, "width": side, "num_inference_steps": STEPS[name], **guidance}
    return model.pipeline(PROMPT, generator=generator(SEED), output_type="latent", **values).images


@pytest.mark.parametrize("name", STEPS)
def test_its_denoiser_samples_what_the_class_samples(name, models):
    model = models(name)
    prior = prior_of(model)
    assert isinstance(prior, PipelinePrior)
    side = prior.default_size
    guided = ClassifierFree(prior.denoiser, prior.conditions([""]), SCALE)
    channels = prior.codec.latent_channels
    shape = (channels, side // prior.codec.factor, side // prior.codec.factor)
    expected = own_latents(model, name, side)
    if expected.ndim == 3:  # Flux's are packed
        expected = model.pipeline._unpack_latents(expected, side, side, model.pipeline.vae_scale_factor)
    *_, last = sample(
        guided, type(model.pipeline.scheduler).from_config(model.pipeline.scheduler.config), shape=shape, seeds=[SEED],
        conditioning=prior.conditions([PROMPT]), steps=STEPS[name],
    )  # fmt: skip
    torch.testing.assert_close(last.latents, expected, rtol=1e-3, atol=1e-4)


def test_pixels_of_deepfloyd_are_denoised_as_its_network_does(models):
    model = models("IFPipeline")
    prior = prior_of(model)
    x, t = torch.randn(2, 3, prior.default_size, prior.default_size, generator=generator(0)), torch.tensor([10, 700])
    text = model.pipeline.encode_prompt([PROMPT] * 2, do_classifier_free_guidance=False)[0]
    with torch.no_grad():
        expected = model.pipeline.unet(x, t, text).sample[:, :3]
        made = prior.denoiser(x, t, prior.conditions([PROMPT] * 2)).eps
    torch.testing.assert_close(made, expected)
    assert torch.equal(prior.codec.encode(x), x)


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_an_asset_learns_from_every_one_of_them(name, models):
    if name not in TINY:
        pytest.fail(f"{name} has no tiny pipeline to be tried with")
    values = {"steps": 2, "teacher": "image", "views": 2, "render_size": 16, "coarse_render_size": 16, "samples": 12}
    recipe = AssetRecipe.parse({"prompt": PROMPT, "field_resolution": 12, **values})
    states = list(distill(replace(prior_of(models(name)), default_size=32), recipe))
    assert all(state.gradient_rms > 0 for state in states)


def test_those_that_the_checks_let_through_are_those_that_there_are():
    assert PRIORS.keys() == DISTILLED


def test_a_class_whose_gradient_cannot_be_had_says_so(models):
    with pytest.raises(ModelError, match=r"got a SanaPipeline.*gradient cannot be reached"):
        prior_of(models("SanaPipeline"))
