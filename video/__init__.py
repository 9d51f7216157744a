"""Temporal layers on the core: a video latent diffusion model."""
