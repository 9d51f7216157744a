"""Training stages of the latent diffusion core: generators that yield their state; callers log, save and stop."""
