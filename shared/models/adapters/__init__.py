"""What is added to a model from small files: low-rank changes of its weights (LoRA), and words (textual inversion)."""
