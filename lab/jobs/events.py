"""What a run tells its caller while it goes on: one value for each thing that happened, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from lab.results import Result


@dataclass(frozen=True)
class Timed:
    """A stage of the work ("load", "sample", "distill", "decode", "mesh", "write", ...) took so many seconds more."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something the user should know; the work goes on."""

    text: str


@dataclass(frozen=True)
class Stepped:
    """`step` of `total` steps of a stage are done, for the jobs numbered `jobs` (from 0) together.

    gradient_rms: of a distillation. preview: when called, a small picture of what there is so far.
    """

    stage: str
    step: int
    total: int
    jobs: tuple[int, ...]
    gradient_rms: float | None = None
    preview: Callable[[], UInt8[np.ndarray, "h w 3"]] | None = None


@dataclass(frozen=True)
class Done:
    """Job `index` is finished. outputs: the files that were written."""

    index: int
    result: Result
    outputs: tuple[Path, ...] = ()
    unknown_words: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Failed:
    """Job `index` has failed; others go on."""

    index: int
    error: Exception


Event = Timed | Warned | Stepped | Done | Failed
