"""What a manifest takes, before it is run: how many tasks, how long, how much memory and disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.batch.content import entries
from lab.batch.steps import steps
from lab.batch.task import Task
from lab.device import pick
from lab.kinds import kinds

PLANNED = 4  # different recipes that are planned; of more, the rest is taken to be like their average
GIB, MIB = 2**30, 2**20
ASSET_BYTES_A_FACE = 24


@dataclass(frozen=True)
class Foreseen:
    """tasks: by step. equal: of them, those whose work is done once for several. seconds: one after the other, None
    where this machine is not calibrated. peak_bytes: of one worker. disk_bytes: about. Tools have no plan: where there
    is nothing else, seconds are None and peak_bytes 0.
    """

    tasks: dict[str, int]
    equal: int
    seconds: float | None
    peak_bytes: int
    disk_bytes: int

    def lines(self) -> Iterator[str]:
        total = sum(self.tasks.values())
        yield f"{total} tasks: " + ", ".join(f"{count} {step}" for step, count in self.tasks.items())
        if self.equal:
            yield f"{self.equal} of them are equal to others, and are made once"
        if self.peak_bytes:
            yield "time   " + (
                "unknown: kinoform plan calibrate measures this machine" if self.seconds is None
                else f"about {self.seconds / 60:.1f} min, one after the other"
            )  # fmt: skip
            yield f"memory {self.peak_bytes / GIB:.1f} GiB at most, for each worker"
        else:
            yield "time and memory are planned of kinds alone, and there are none"
        yield f"disk   about {self.disk_bytes / MIB:.1f} MiB"

    def facts(self) -> dict[str, Any]:
        return {"tasks": self.tasks, "equal": self.equal, "planned_seconds": self.seconds,
                "peak_bytes": self.peak_bytes, "disk_bytes": self.disk_bytes}  # fmt: skip


def foresee(tasks: Sequence[Task], device: str) -> Foreseen:
    """Plans every different recipe once (`kinoform plan`), up to PLANNED. device: as `lab.device.pick` takes it."""
    found = entries(tasks)
    groups: dict[str, list[Task]] = {}
    for task, entry in zip(tasks, found, strict=True):
        if task.step in kinds():
            groups.setdefault(entry.affinity, []).append(task)
    peak, seconds = _planned(list(groups.values()), device) if groups else (0, None)
    equal = len(found) - len({entry.key for entry in found})
    return Foreseen(dict(Counter(task.step for task in tasks)), equal, seconds, peak, sum(map(disk, tasks)))


def _planned(groups: Sequence[Sequence[Task]], device: str) -> tuple[int, float | None]:
    """`peak_bytes` and `seconds` of groups of tasks, each of equal affinity."""
    from shared.plan import calibration  # inside: it imports torch

    where = pick(device)
    known = calibration.load(calibration.place(where))
    peak, times, covered, timed = 0, 0.0, 0, known is not None
    for group in sorted(groups, key=len, reverse=True)[:PLANNED]:
        planner, _ = kinds()[group[0].step].planner(where)
        estimate = planner(_recipe(group[0]))
        peak = max(peak, estimate.peak)
        covered += len(group)
        times += 0.0 if known is None else known.seconds(estimate) * len(group)
        timed = timed and not estimate.weights_alone
    return peak, times * sum(map(len, groups)) / covered if timed and covered else None


def _recipe(task: Task) -> Any:
    """The recipe, without files: none is made yet, and they weigh little."""
    cls = steps()[task.step].recipe
    given = {*cls.made_file_keys(), *cls.files_keys()}
    return cls.parse({key: value for key, value in task.recipe.items() if key not in given})


def disk(task: Task) -> int:
    """About how many bytes a result takes: pictures a byte a pixel, clips an eighth of it a frame, assets by faces."""
    recipe = task.recipe
    side = recipe.get("size", 64)
    pixels = (recipe.get("width") or side) * (recipe.get("height") or side)
    if Path(task.output).suffix == ".json":
        return 4096
    if "mesh_faces" in recipe:
        return ASSET_BYTES_A_FACE * (recipe["mesh_faces"] or 100_000)
    return pixels * max(1, (recipe.get("frames") or 16) // 8) * recipe.get("scale", 1) ** 2 + 4096
