"""Clips."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.kinds.kind import Kind, Loader, Output, Planner, Savings
from lab.outputs import check_clip
from shared.models.made_for import frames_advice, size_advice, steps_advice
from shared.recipe import Recipe
from video.recipe import ClipRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from lab.results import Clip
    from shared.artifacts.run_record import RunRecord
    from shared.diffusion.sampling import SampleState
    from shared.models.image_model import ImageModel
    from shared.models.made_for import MadeFor
    from video.generate import VideoModel


class ClipKind:
    name = "clip"
    recipe: type[Recipe] = ClipRecipe
    default = "out.mp4"
    help = "Make clips from prompts."
    examples: tuple[str, ...] = (
        'kinoform clip "a red ball bouncing" -o ball.mp4',
        "kinoform clip --prompts prompts.txt --count 4 -o clips/",
    )
    formats = ".mp4, .webm, .mov, .gif, .webp, .apng, or a folder for PNGs"
    in_folder = True
    turntable = False
    looping = "sample"
    unused: tuple[str, ...] = ("image_encoder",)
    parts: tuple[str, ...] = ("temporal",)

    def output(self, path: str) -> Output:
        return Output(path)

    def check(self, recipe: ClipRecipe, output: Output) -> None:
        if output.path is not None:
            check_clip(output.path, recipe.fps)

    def advice(self, recipe: ClipRecipe, model: MadeFor) -> list[str]:
        lines = (
            size_advice(model, recipe.width, recipe.height),
            frames_advice(model, recipe.frames, recipe.window),
            steps_advice(model, recipe.steps),
        )
        return [line for line in lines if line]

    def loader(self) -> Loader:
        from video.generate import load_video_model

        return load_video_model

    def image_model(self, model: VideoModel) -> ImageModel:
        return model.image

    def prompts(self, recipe: ClipRecipe) -> list[str]:
        return [recipe.prompt]

    def together(self, recipe: ClipRecipe) -> Hashable:
        return recipe.model_copy(update={"prompt": "", "negative": "", "seed": 0, "fps": 1})

    def batch_size(self, device: str) -> int:
        return 1  # a clip is a batch of frames already: more at once are not faster

    def planner(self, device: str) -> tuple[Planner, Savings]:
        from video.plan import clip_savings, plan_clip

        importlib.import_module("shared.artifacts.media")
        return partial(plan_clip, device=device), clip_savings

    def sample(self, model: VideoModel, recipes: Sequence[ClipRecipe], device: str) -> Iterator[SampleState]:
        from video.generate import sample_latents

        return sample_latents(model, recipes, device)

    def latents(self, state: SampleState, index: int) -> Tensor:
        return state.latents[index : index + 1]

    def finish(
        self,
        model: VideoModel,
        recipe: ClipRecipe,
        last: Tensor,
        record: RunRecord,
        device: str,
        timed: Callable[[str], Any],
    ) -> Clip:
        from lab.results import Clip
        from video.generate import decode_clips

        with timed("decode"):
            return Clip(decode_clips(model.image, last, recipe.memory, device)[0], float(recipe.fps), record)

    def save(self, result: Clip, recipe: ClipRecipe, output: Output, timed: Callable[[str], Any]) -> list[Path]:
        if output.path is None:
            return []
        with timed("write"):
            return [result.save(output.path)]

    def read(self, path: Path) -> Clip:
        from lab.results import Clip
        from shared.artifacts.media import read_clip
        from shared.artifacts.run_record import read_record

        held = read_clip(path)
        return Clip(held.frames, float(held.fps), read_record(path))

    def facts(self, result: Clip) -> dict[str, Any]:
        return {"frames": len(result.frames), "fps": result.fps}

    def line(self, result: Clip) -> str:
        return ""


CLIP: Kind = ClipKind()
