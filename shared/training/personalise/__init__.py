"""Something new for an image model from a few pictures: LoRA, textual inversion, DreamBooth."""
