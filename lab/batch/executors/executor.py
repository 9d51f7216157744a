"""What the head of a batch and those who do its tasks say to each other. All of it can be JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Fault = Literal["input", "work", "disk"]


@dataclass(frozen=True)
class Order:
    """One task of an assignment. recipe: without the keys that `files` fills; these are paths. output: the file to
    write, in a folder of its own. names: what the run record is to call the files.
    """

    number: int
    recipe: Mapping[str, Any]
    output: str
    files: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """Tasks of one step that are done together, under one lease. score: say how well pictures agree with prompts."""

    token: int
    step: str
    orders: Sequence[Order]
    score: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Assignment:
        return cls(**{**values, "orders": tuple(Order(**order) for order in values["orders"])})


@dataclass(frozen=True)
class Report:
    """What an executor tells of the assignment `token`.

    alive: it goes on; `shares` of its tasks are done. made: task `number` is, in `seconds`, with `scores`. broke: it
    failed, by `fault`: its "input" is wrong, the "work" failed, or the "disk" is full. ended: nothing more comes of the
    assignment. gone: its worker is no more; by its own fault where `fault` is "work", else it was taken away.
    """

    token: int
    event: Literal["alive", "made", "broke", "ended", "gone"]
    number: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    fault: Fault | None = None


@runtime_checkable
class Executor(Protocol):
    """Does assignments. None of its methods waits, `poll` and `close` aside."""

    def free(self) -> list[str]:
        """Names of the workers that have nothing to do; those that are to be started included."""
        ...

    def give(self, worker: str, assignment: Assignment) -> None:
        """Let a free worker do an assignment. `Order.output` may be written from now on, until "ended" or "gone"."""
        ...

    def cancel(self, token: int) -> None:
        """End an assignment after the step at hand; "ended" follows."""
        ...

    def drop(self, token: int) -> None:
        """End an assignment at once, with its worker; "gone" follows."""
        ...

    def poll(self, seconds: float) -> list[Report]:
        """What has happened, in order; waits up to so long for something to."""
        ...

    def close(self) -> None:
        """End all workers, and wait for it."""
        ...
