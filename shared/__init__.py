"""The latent diffusion core: images, noise, text and attention. It knows neither video nor 3D."""
