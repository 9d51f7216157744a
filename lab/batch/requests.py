"""What people ask of a batch that may have a head: it alone writes the ledger, so requests lie in files until it looks.

Where a batch has no head, the one who asks is the head for as long as it takes.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.reader import Reader
from lab.batch.ledger.states import LOST
from lab.batch.place import Place
from shared.artifacts.files import write_bytes
from shared.errors import InputError, KinoformError

ANSWER_SECONDS = 30.0
LOOK_SECONDS = 0.05
Action = Literal["cancel", "retry", "pause", "resume"]


@dataclass(frozen=True)
class Request:
    """names: ids of tasks or `tag:NAME`; all of them where empty."""

    action: Action
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """tasks: ids of those that it concerned. error: why it could not be."""

    tasks: Sequence[str] = ()
    error: str | None = None


def ask(place: Place, request: Request) -> Answer:
    """Have a request done, by the head or else here. Raises KinoformError where a head does not answer, InputError for
    names that no task has.
    """
    while True:
        if not place.is_headed():
            with suppress(_Headed):
                return _do_here(place, request)
        answer = _ask_head(place, request)
        if answer is not None:
            if answer.error is not None:
                raise InputError(answer.error)
            return answer


def waiting(place: Place) -> Iterator[tuple[Path, Request]]:
    """For the head: requests, in the order in which they came, each with the place of its answer."""
    for file in sorted(place.requests.glob("*.json")):
        try:
            values = json.loads(file.read_text())
        except FileNotFoundError:  # who asked has waited long enough
            continue
        yield file.with_suffix(".answer"), Request(values["action"], tuple(values["names"]))
        file.unlink(missing_ok=True)


def answer(file: Path, told: Answer) -> None:
    write_bytes(file, json.dumps(asdict(told)).encode())


def do(ledger: Ledger, request: Request, now: float) -> tuple[list[str], set[int]]:
    """Carry a request out: the ids of the tasks that it concerned, and tokens of assignments that are to end."""
    if request.action in ("pause", "resume"):
        ledger.pause(request.action == "pause")
        return [], set()
    if request.action == "cancel":
        rows = ledger.cancel(ledger.find(request.names), now=now)
        return [row.id for row in rows], {row.token for row in rows if row.token is not None}
    rows = ledger.retry(ledger.find(request.names, *LOST), now=now)
    return [row.id for row in rows], set()


class _Headed(Exception):
    """Another became the head meanwhile."""


def _do_here(place: Place, request: Request) -> Answer:
    Reader.open(place.ledger).close()  # refused where there is none: asking makes no batch
    try:
        with place.headed():
            ledger = Ledger.open(place.ledger)
            try:
                tasks, _ = do(ledger, request, time.time())
                return Answer(tasks)
            finally:
                ledger.close()
    except KinoformError as error:
        if place.is_headed():
            raise _Headed from error
        raise


def _ask_head(place: Place, request: Request) -> Answer | None:
    """None where the head ended before it answered."""
    name = f"{time.monotonic_ns():020d}-{secrets.token_hex(4)}"  # in their order, whoever sets the clock
    asked, answered = place.requests / f"{name}.json", place.requests / f"{name}.answer"
    write_bytes(asked, json.dumps(asdict(request)).encode())
    until = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < until:
        if answered.is_file():
            values = json.loads(answered.read_text())
            answered.unlink()
            return Answer(tuple(values["tasks"]), values["error"])
        if not place.is_headed():
            asked.unlink(missing_ok=True)
            return None
        time.sleep(LOOK_SECONDS)
    asked.unlink(missing_ok=True)
    raise KinoformError(f"batch {place.folder}", expected="an answer of its head", got="none", hint=place.holder())
