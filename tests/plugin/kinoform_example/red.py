"""A scorer: how much redder than green and blue frames are."""


class Red:
    def __init__(self, model):
        self.model = model

    def score(self, frames, prompt):
        red, green, blue = frames.reshape(-1, 3).mean(0) / 255
        return float(red - (green + blue) / 2)
