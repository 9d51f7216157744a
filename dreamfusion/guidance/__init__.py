"""Which way a diffusion model says that renders should change."""
