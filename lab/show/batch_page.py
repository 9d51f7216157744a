"""The page of a batch: its tasks as items, brought up to date while it runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import Any

from lab.batch.ledger.reader import Reader
from lab.batch.ledger.rows import Row
from lab.batch.ledger.states import State
from lab.batch.place import Place
from lab.batch.steps import steps
from lab.web.items import Item
from lab.web.page import Page

MOST = 5_000  # items that a page shows: the newest
MOVES = 250  # by so many at once does the window move over more than those, so that the page's files stay as they are
SHARE = 0.05  # of the time may go into the page


class BatchPage:
    """Updated at most once a second, and no more often than SHARE allows."""

    def __init__(self, place: Place, ledger: Reader) -> None:
        self.page = Page(place.folder, place.folder.name)
        self.ledger = ledger
        self.results = place.results.name
        self._next = 0.0

    def update(self, *, now: bool = False) -> None:
        """now: whether or not it is time to."""
        started = time.monotonic()
        if not now and started < self._next:
            return
        self.page.update(items(self.ledger, self.results))
        ended = time.monotonic()
        self._next = ended + max(1.0, (ended - started) / SHARE)


def items(ledger: Reader, results: str) -> Iterator[Item]:
    """The newest tasks of a batch. results: the name of the folder of results."""
    prompts: dict[tuple[str, str], str] = {}
    total = sum(ledger.counts().values())
    for row in ledger.each(last=total if total <= MOST else MOST - MOVES + total % MOVES):
        prompt = row.recipe.get("prompt") or next(
            (prompts[row.manifest, id] for id in row.inputs.values() if (row.manifest, id) in prompts), row.id
        )
        prompts[row.manifest, row.id] = prompt
        yield _item(ledger, row, prompt, results)


def _item(ledger: Reader, row: Row, prompt: str, results: str) -> Item:
    output = f"{results}/{row.output}"
    return Item(
        id=f"{row.manifest}:{row.id}",
        state=row.state.value,
        step=row.step,
        prompt=prompt,
        template=row.template,
        model=str(row.recipe.get("model", _default(row.step, "model") or "")),
        seed=row.recipe.get("seed", _default(row.step, "seed")),
        tags=row.tags,
        output=output if row.state is State.DONE else None,
        recipe=row.recipe,
        command=f"kinoform rerun {shlex.quote(output)}" if row.state is State.DONE else "",
        error=ledger.why(row),
        seconds=row.seconds,
        scores=row.scores,
        done_share=row.share,
    )


def _default(step: str, key: str) -> Any:
    field = steps()[step].recipe.model_fields.get(key) if step in steps() else None
    return None if field is None else field.get_default()
