"""The plan of `kinoform train all`: which stages a data folder needs, in which order, and how long each may take.

It is kept in OUT, so that a training that was stopped goes on by the same plan. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.artifacts.files import write_bytes
from shared.errors import InputError
from video.recipe import TRAINED_FRAMES

PLAN = "train-all.json"
FINEST = 3  # so many times as finely as a network sees them are clips read at most, for parts of them
Start = Literal["embedded", "new"]
StageName = Literal["autoencoder", "image", "video", "video-joint", "scorer"]
# Shares of the time, by what each stage gains from it. Stages that are left out give theirs to the others.
SHARES: dict[StageName, float] = {
    "autoencoder": 0.16,
    "image": 0.46,
    "video": 0.30,
    "video-joint": 0.30,
    "scorer": 0.08,
}


class Stage(BaseModel):
    """One stage. minutes: planned for it. steps: decided when it starts. seconds: that it took, once it is done.

    What comes after a hyphen in its name is how it trains; before it is what.
    """

    model_config = ConfigDict(extra="forbid")
    name: StageName
    minutes: float = Field(ge=0)
    steps: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, ge=0)

    @property
    def part(self) -> str:
        """The networks that it trains: those of the stage of this name."""
        return self.name.partition("-")[0]

    @property
    def done(self) -> bool:
        return self.seconds is not None


class Plan(BaseModel):
    """data: the folder that is trained on. minutes: for all stages. size: side of the pictures in pixels.

    start: "embedded" goes on from the embedded model, "new" from nothing. fineness: how many times as finely as the
    network sees them clips are read, for parts of them.
    """

    model_config = ConfigDict(extra="forbid")
    data: str
    minutes: float = Field(gt=0)
    size: int
    seed: int
    start: Start = "embedded"
    fineness: int = Field(1, ge=1)
    stages: list[Stage]

    @property
    def done(self) -> bool:
        return all(stage.done for stage in self.stages)

    def seconds_for(self, stage: Stage) -> float:
        """What is left for `stage`: its share, among the stages to do, of the time that is not spent."""
        spent = sum(s.seconds or 0.0 for s in self.stages)
        open_minutes = sum(s.minutes for s in self.stages if not s.done)
        return max(0.0, 60 * self.minutes - spent) * stage.minutes / open_minutes


def plan_stages(minutes: float, *, clips: bool, autoencoder: bool = True, joint: bool = False) -> list[Stage]:
    """The stages in their order, with the minutes of each.

    clips: whether there are any. autoencoder: whether it has to be trained; not where the embedded one is good enough.
    joint: whether the image network learns along with temporal layers at last.
    """
    needed = {"autoencoder": autoencoder, "image": True, "video": clips, "video-joint": clips and joint, "scorer": True}
    names: Sequence[StageName] = [name for name in SHARES if needed[name]]
    whole = sum(SHARES[name] for name in names)
    return [Stage(name=name, minutes=minutes * SHARES[name] / whole) for name in names]


def fineness_of(lengths: Iterable[int]) -> int:
    """How many times as finely as a network sees them clips of so many frames can all be read, up to FINEST."""
    return max(1, min(FINEST, (min(lengths, default=1) - 1) // (TRAINED_FRAMES - 1)))


def read_plan(out: Path) -> Plan | None:
    """The plan in `out`; None where there is none. Raises InputError for a file that is none."""
    file = out / PLAN
    if not file.is_file():
        return None
    try:
        return Plan.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0]
        raise InputError(
            str(file), expected="a plan of `train all`", got=what, hint="Train into a new folder"
        ) from error


def write_plan(plan: Plan, out: Path) -> None:
    write_bytes(out / PLAN, (plan.model_dump_json(indent=2) + "\n").encode())
