"""A kind: pictures in a frame."""

import numpy as np
from pydantic import Field

from lab.kinds.image import ImageKind
from lab.results import Picture
from shared.images.recipe import ImageRecipe


class PosterRecipe(ImageRecipe):
    frame: int = Field(4, ge=0, le=64, description="width of the frame, in pixels")


class PosterKind(ImageKind):
    name = "poster"
    recipe = PosterRecipe
    default = "poster.png"
    help = "Make posters from prompts."
    examples = ('kinoform poster "a red cube" --frame 8',)

    def finish(self, model, recipe, last, record, device, timed):
        picture = super().finish(model, recipe, last, record, device, timed)
        width = recipe.frame
        return Picture(np.pad(picture.pixels, ((width, width), (width, width), (0, 0))), record)


POSTER = PosterKind()
