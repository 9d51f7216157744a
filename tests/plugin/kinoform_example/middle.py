"""A guidance: classifier-free, in the middle of the noise range alone (Kynkaanniemi et al. 2024)."""

from shared.diffusion.guidance import ClassifierFree, Interval


def middle(denoiser, negative, recipe):
    return Interval(ClassifierFree(denoiser, negative, recipe.guidance_scale), low=0.3, high=5.0)
