"""The diffusion process: schedule, denoiser, what it is told, guidance, sampling."""
