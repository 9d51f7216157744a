"""A long call that tells of its steps, as a generator of them.

The call runs in a thread of its own and waits at each step until the generator is asked for the next: a caller that
looks at a state, or closes the generator, does so while nothing is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Tell = Callable[[int, int], None]


class Stopped(BaseException):
    """Raised inside the call where the generator was closed; no `except Exception` on the way holds it up."""


def stepped(call: Callable[[Tell], T]) -> Generator[tuple[int, int], None, T]:
    """Runs `call(tell)`; yields the (step, total) of each `tell(step, total)`, and returns what the call does.

    What the call raises is raised here. Closing the generator raises `Stopped` inside the call, at the step that it
    waits at or comes to next, and returns when the call has ended.
    """
    told: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
    asked: SimpleQueue[bool] = SimpleQueue()
    ended: list[T] = []
    raised: list[BaseException] = []

    def tell(step: int, total: int) -> None:
        told.put((step, total))
        if not asked.get():
            raise Stopped

    def work() -> None:
        try:
            ended.append(call(tell))
        except BaseException as error:
            raised.append(error)
        told.put(None)

    thread = threading.Thread(target=work, name="pipeline", daemon=True)
    thread.start()
    try:
        while (step := told.get()) is not None:
            yield step
            asked.put(True)
    finally:
        asked.put(False)
        thread.join()
    if raised:
        raise raised[0]
    return ended[0]
