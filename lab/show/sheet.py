"""A contact sheet beside many results: all of them on one page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.jobs.run import Job
from shared.errors import KinoformError

if TYPE_CHECKING:
    import numpy as np

SHEET_ROWS = 200  # results that a sheet shows
A_ROW = 8  # pictures of one prompt side by side

Shown = tuple[Job, "list[np.ndarray]"]


@dataclass(frozen=True)
class Sheet:
    """path: of the page. jobs: all of the results in order, those that were made before included."""

    path: Path
    jobs: Sequence[Job]

    def write(self, pictures: Mapping[str | None, list[np.ndarray]], tried: Collection[str | None]) -> int:
        """Write the page, and return how many results are on it.

        pictures: of results just made, by their output. tried: outputs that were to be made now; the others' pictures
        are read from their files, where the format allows it. Raises as `shared.artifacts.media.write_image`.
        """
        from shared.artifacts.contact_sheet import contact_sheet
        from shared.artifacts.media import write_image

        shown = self._shown(pictures, tried)
        rows, labels = _rows(shown)
        smallest = min(picture.shape[1] for row in rows for picture in row)
        write_image(self.path, contact_sheet(rows, labels, scale=max(1, 128 // smallest)))
        return len(shown)

    def _shown(self, pictures: Mapping[str | None, list[np.ndarray]], tried: Collection[str | None]) -> list[Shown]:
        shown: list[Shown] = []
        for job in self.jobs:
            path = job.output.path
            if len(shown) == SHEET_ROWS:
                break
            if path in pictures:
                shown.append((job, pictures[path]))
            elif path is not None and path not in tried:
                with suppress(KinoformError):
                    shown.append((job, job.kind.read(Path(path)).thumbnails()))
        return shown


def _rows(shown: Sequence[Shown]) -> tuple[list[list[np.ndarray]], list[str]]:
    """A row for each prompt, of its pictures side by side, or of one clip's or asset's own; and a label for each."""
    rows: list[list[np.ndarray]] = []
    labels: list[str] = []
    for job, pictures in shown:
        same = len(pictures) == 1 and labels and labels[-1] == job.recipe.prompt and len(rows[-1]) < A_ROW
        if same:
            rows[-1].append(pictures[0])
        else:
            rows.append(list(pictures))
            labels.append(job.recipe.prompt if len(pictures) == 1 else f"{job.recipe.prompt} (seed {job.recipe.seed})")
    return rows, labels
