"""The way from the attention modules of diffusers and transformers to `attend`."""
