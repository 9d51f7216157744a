"""Clips."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.kinds.kind import Kind, Loader, Output, Planner, Savings
from lab.kinds.pipelines import load_clips, planned
from lab.outputs import check_clip
from shared.models.made_for import frames_advice, size_advice, steps_advice
from shared.recipe import Recipe
from video.recipe import TRAINED_FRAMES, ClipRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from lab.results import Clip
    from shared.artifacts.run_record import RunRecord
    from shared.diffusion.sampling import SampleState
    from shared.models.image_model import ImageModel
    from shared.models.made_for import MadeFor
    from shared.models.pipelines.load import PipelineModel
    from shared.models.pipelines.run import PipelineState
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
    pipelines: frozenset[str] | None = None

    def output(self, path: str) -> Output:
        return Output(path)

    def check(self, recipe: ClipRecipe, output: Output) -> None:
        if output.path is not None:
            check_clip(output.path, recipe.fps)

    def advice(self, recipe: ClipRecipe, model: MadeFor) -> list[str]:
        if recipe.motion_adapter is not None:
            model = replace(model, frames=TRAINED_FRAMES)
        lines = (
            size_advice(model, recipe.width, recipe.height),
            frames_advice(model, recipe.frame_count, recipe.window),
            steps_advice(model, recipe.steps),
        )
        return [line for line in lines if line]

    def loader(self) -> Loader:
        return load_clips

    def image_model(self, model: VideoModel | PipelineModel) -> ImageModel | PipelineModel:
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
        return partial(planned, plan_clip, device=device), clip_savings

    def sample(
        self, model: VideoModel | PipelineModel, recipes: Sequence[ClipRecipe], device: str
    ) -> Iterator[SampleState | PipelineState]:
        from shared.models.pipelines.load import PipelineModel
        from shared.models.pipelines.run import run_pipeline
        from video.generate import sample_latents

        if isinstance(model, PipelineModel):
            return run_pipeline(model, recipes[0], device)
        return sample_latents(model, recipes, device)

    def latents(self, state: SampleState | PipelineState, index: int) -> Tensor | None:
        return None if state.latents is None else state.latents[index : index + 1]

    def finish(
        self,
        model: Any,
        recipe: ClipRecipe,
        last: Tensor | PipelineState,
        record: RunRecord,
        device: str,
        timed: Callable[[str], Any],
    ) -> Clip:
        from lab.results import Clip
        from shared.models.pipelines.run import PipelineState
        from video.generate import decode_clips

        if isinstance(last, PipelineState):
            return Clip(last.made, float(recipe.fps), record)
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
