"""Training stages of the latent diffusion core: each is a generator that yields its state; callers log, save and stop."""
