"""The states of a task, and every step between them that there is. All others are refused."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """queued: ready to run. blocked: waits for what another task makes. running: leased to a worker.
    done: its file is published. failed: its input is wrong, so that another attempt would fail alike. poisoned: it has
    failed so often that nobody tries again by himself. cancelled: a person took it out.
    """

    QUEUED = "queued"
    BLOCKED = "blocked"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    POISONED = "poisoned"
    CANCELLED = "cancelled"


ENDED = (State.DONE, State.FAILED, State.POISONED, State.CANCELLED)
LOST = (State.FAILED, State.POISONED, State.CANCELLED)  # what waits for one of these waits for a person

TRANSITIONS = {
    (State.BLOCKED, State.QUEUED): "all that it waits for is done",
    (State.BLOCKED, State.CANCELLED): "a person took it out",
    (State.QUEUED, State.BLOCKED): "a file that it takes is gone, or it is to be made otherwise",
    (State.QUEUED, State.RUNNING): "a worker has leased it",
    (State.QUEUED, State.DONE): "the same was made before: its file is taken over",
    (State.QUEUED, State.CANCELLED): "a person took it out",
    (State.RUNNING, State.DONE): "its file is published",
    (State.RUNNING, State.QUEUED): "its worker was taken away, or it has failed and is tried again",
    (State.RUNNING, State.FAILED): "its input is wrong",
    (State.RUNNING, State.POISONED): "it has failed too often",
    (State.RUNNING, State.BLOCKED): "it is to be made otherwise, of what is not there yet",
    (State.RUNNING, State.CANCELLED): "a person took it out",
    (State.DONE, State.QUEUED): "its file is gone or changed, or it is to be made otherwise",
    (State.DONE, State.BLOCKED): "it is to be made otherwise, of what is not there yet",
    (State.FAILED, State.QUEUED): "a person wants it tried again",
    (State.FAILED, State.BLOCKED): "a person wants it tried again, and what it takes is not there",
    (State.POISONED, State.QUEUED): "a person wants it tried again",
    (State.POISONED, State.BLOCKED): "a person wants it tried again, and what it takes is not there",
    (State.CANCELLED, State.QUEUED): "a person wants it after all",
    (State.CANCELLED, State.BLOCKED): "a person wants it after all, and what it takes is not there",
}
