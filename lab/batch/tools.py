"""Tools: steps of a chain that turn what another task made into something else. No model draws anything here.

A tool's record says what the tool did and, of what it was made from, the prompt, model and seed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lab.batch.step import SAME, Work
from lab.jobs.events import Done, Event, Failed, Timed
from lab.jobs.run import Context
from lab.jobs.save import signed
from lab.kinds.pipelines import runs_by_pipeline
from shared.errors import InputError, KinoformError, ModelError
from shared.recipe import Recipe, input_file

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from shared.artifacts.run_record import RunRecord
    from shared.models.clip_scorer import ClipScorer

OF_SOURCE = ("prompt", "model", "seed")  # what a tool's record tells of what it was made from
LOOKS = 4  # pictures of an asset that are scored


class TurntableRecipe(Recipe):
    """A clip of an asset that turns once."""

    asset: str | None = Field(None, description="the asset", json_schema_extra=input_file())
    frames: int = Field(24, ge=1, le=1000, description="frames of one turn")
    size: int = Field(192, ge=16, le=2048, multiple_of=2, description="size of the frames")
    fps: int = Field(12, ge=1, le=240, description="frames a second")


class UpscaleRecipe(Recipe):
    """A picture or clip in more pixels, by Lanczos resampling: no detail is invented."""

    source: str | None = Field(None, description="a picture or clip", json_schema_extra=input_file())
    scale: int = Field(2, ge=2, le=16, description="times as wide and as high")


class DescribeRecipe(Recipe):
    """What is known of a result, as JSON: its record, and how well it agrees with its prompt."""

    source: str | None = Field(None, description="a picture, clip or asset", json_schema_extra=input_file())


@dataclass(frozen=True)
class Text:
    """What `describe` makes."""

    values: Mapping[str, Any]
    record: RunRecord


@dataclass(frozen=True)
class Tool:
    """A step without a model."""

    name: str
    recipe: type[Recipe]
    takes: Mapping[str, frozenset[str]]
    makes: str
    suffix: str | None

    def check(self, recipe: Any, output: Path) -> None:
        from shared.artifacts.files import check_writable
        from shared.artifacts.media import CLIP_SUFFIXES, IMAGE_SUFFIXES

        endings = {"clip": CLIP_SUFFIXES, SAME: (*IMAGE_SUFFIXES, *CLIP_SUFFIXES), "text": (".json",)}
        check_writable(output, [ending for ending in endings[self.makes] if ending])

    def run(self, works: Sequence[Work], context: Context) -> Iterator[Event]:
        for index, work in enumerate(works):
            started = time.perf_counter()
            try:
                ((key, file),) = work.recipe.files().items()
                with signed(work.output, context.signer) as place:
                    record = _record(self.name, work, key, Path(file))
                    result = MAKERS[self.name](Path(file), replace(work, output=place), record)
            except Exception as error:
                yield Failed(index, error)
                continue
            yield Timed(self.name, time.perf_counter() - started)
            yield Done(index, result, (work.output,))


ANY = frozenset({"image", "clip", "asset"})
TOOLS = (
    Tool("turntable", TurntableRecipe, {"asset": frozenset({"asset"})}, "clip", ".mp4"),
    Tool("upscale", UpscaleRecipe, {"source": frozenset({"image", "clip"})}, SAME, None),
    Tool("describe", DescribeRecipe, {"source": ANY}, "text", ".json"),
)


def _record(tool: str, work: Work, key: str, file: Path) -> RunRecord:
    from shared.artifacts.files import sha256
    from shared.artifacts.run_record import RunRecord, read_record

    of = read_record(file)
    values = {
        **work.recipe.resolved(),
        **work.names,
        **{name: of.recipe[name] for name in OF_SOURCE if name in of.recipe},
    }
    return RunRecord.of_run(tool, values, of.seed, of.model.name, of.model.hashes, {key: sha256(file)})


def _turntable(file: Path, work: Work, record: RunRecord) -> Any:
    from dreamfusion.mesh.files.write import load_mesh
    from dreamfusion.mesh.turntable import turntable
    from lab.results import Clip

    recipe = work.recipe
    clip = Clip(turntable(load_mesh(file), frames=recipe.frames, size=recipe.size), recipe.fps, record)
    clip.save(work.output)
    return clip


def _upscale(file: Path, work: Work, record: RunRecord) -> Any:
    import numpy as np
    from PIL import Image

    from lab.results import Clip, Picture
    from shared.artifacts.media import is_clip, read_clip, read_image

    def larger(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        height, width = (side * work.recipe.scale for side in picture.shape[:2])
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))

    result: Picture | Clip
    if is_clip(file):
        clip = read_clip(file)
        result = Clip(np.stack([larger(frame) for frame in clip.frames]), clip.fps, record)
    else:
        result = Picture(larger(read_image(file)), record)
    result.save(work.output)
    return result


def _describe(file: Path, work: Work, record: RunRecord) -> Text:
    from shared.artifacts.files import write_bytes
    from shared.artifacts.run_record import read_record
    from shared.artifacts.tag import TAG

    of = read_record(file)
    values = {"of": of.command, "prompt": of.recipe.get("prompt"), "record": of.model_dump(mode="json")}
    score = score_of(file, of)
    if score is not None:
        values["score"] = round(score, 6)
    write_bytes(work.output, json.dumps({**values, TAG: record.model_dump(mode="json")}, indent=1).encode() + b"\n")
    return Text(values, record)


MAKERS = {"turntable": _turntable, "upscale": _upscale, "describe": _describe}


def score_of(file: Path, record: RunRecord) -> float | None:
    """How well a picture, clip or asset agrees with its prompt by the CLIP of its model, -1 to 1; None where the model
    has none or is a pipeline of diffusers, whose image encoder is another's, and where there is nothing to see.
    """
    from shared.models.source import find_model

    prompt = record.recipe.get("prompt")
    try:
        path = find_model(record.model.name)
    except ModelError:  # the model that made it is not here
        return None
    if path is None or not isinstance(prompt, str) or not (path / "image_encoder").is_dir() or runs_by_pipeline(path):
        return None
    frames = _frames(file)
    return None if frames is None else _scorer(path).score(frames, prompt)


@lru_cache(1)
def _scorer(model: Path) -> ClipScorer:
    from shared.models.clip_scorer import ClipScorer

    return ClipScorer.from_folder(model)


def _frames(file: Path) -> UInt8[np.ndarray, "t h w 3"] | None:
    from shared.artifacts.media import is_clip, read_clip, read_image

    if file.suffix.lower() == ".glb":
        from dreamfusion.mesh.files.write import load_mesh
        from dreamfusion.mesh.turntable import turntable

        return turntable(load_mesh(file), frames=LOOKS, size=64)
    try:
        return read_clip(file).frames if is_clip(file) else read_image(file)[None]
    except InputError:
        return None


def tool_of(record: RunRecord) -> Tool | None:
    """The tool that made a file, if one did."""
    return next((tool for tool in TOOLS if tool.name == record.command), None)


def again(record: RunRecord, output: str, moved: Mapping[str, str]) -> Work:
    """The work that makes a tool's file once more. moved: where its source is now.

    Raises InputError where that holds something else now.
    """
    from shared.artifacts.files import sha256

    tool = tool_of(record)
    if tool is None:
        raise KinoformError(f"record of {record.command}", expected="that of a tool", got="another")
    values = {key: value for key, value in record.recipe.items() if key in tool.recipe.model_fields}
    recipe = tool.recipe.parse({**values, **moved})
    for key, file in recipe.files().items():
        if not Path(file).is_file():
            raise InputError(key, expected="a file that exists", got=file, hint=f"Say where it is: --{key} FILE")
        if sha256(Path(file)) != record.inputs[key]:
            hint = f"Say where that is: --{key} FILE"
            raise InputError(f"{key} {file}", expected="the file it was made from", got="another", hint=hint)
    return Work(recipe, Path(output), {key: str(record.recipe[key]) for key in record.inputs})
