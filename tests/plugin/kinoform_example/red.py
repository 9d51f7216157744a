"""A scorer: how much redder than green and blue frames are."""


class Red:
    def __init__(self, model):
        self.model = model

    def score(self, frames, prompt):
        red, green, blue = frames.reshape(-1, 3).mean(0) / 255
        return float(red - (green + blue) / 2)

    def similarity(self, pixels, prompts):
        """The same of pixels in [-1, 1], each with a prompt, for --clip-guidance: it has a gradient."""
        red, green, blue = ((pixels + 1) / 2).mean((2, 3)).unbind(1)
        return red - (green + blue) / 2
