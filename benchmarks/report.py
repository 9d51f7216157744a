"""Rows of a result table: a metric, its value, how many samples, how sure, and what was aimed at."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

Z95 = 1.959964  # two-sided 95% quantile of the normal distribution


@dataclass(frozen=True)
class Row:
    """low, high: 95% interval of `value`; aim: what was aimed at, with `at_most` telling in which direction."""

    metric: str
    value: float
    n: int
    low: float
    high: float
    aim: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the aim is met; None without one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.at_most else self.value >= self.aim


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927), which stays within [0, 1] and holds for small n too."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(metric: str, right: Sequence[bool] | np.ndarray, aim: float | None = None) -> Row:
    """The share of true values."""
    right = np.asarray(right, dtype=bool)
    low, high = wilson(int(right.sum()), len(right))
    return Row(metric, float(right.mean()) if len(right) else math.nan, len(right), low, high, aim)


def mean(metric: str, values: Sequence[float] | np.ndarray, aim: float | None = None, *, at_most: bool = False) -> Row:
    """The mean of numbers, with a normal interval."""
    values = np.asarray(values, dtype=float)
    middle = float(values.mean()) if len(values) else math.nan
    half = Z95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Row(metric, middle, len(values), middle - half, middle + half, aim, at_most)


def medians(rounds: Sequence[Sequence[Row]]) -> list[Row]:
    """The same rows measured several times, as one: median values, and in place of intervals the least and the most."""
    if len(rounds) == 1:
        return list(rounds[0])
    found = []
    for same in zip(*rounds, strict=True):
        values = [row.value for row in same]
        metric = f"{same[0].metric} (median of {len(same)})"
        middle = float(np.median(values))
        found.append(replace(same[0], metric=metric, value=middle, low=min(values), high=max(values)))
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned plain text."""
    width = max(len(row.metric) for row in rows)
    lines = [f"{'metric':<{width}}  {'value':>7}  {'n':>5}  {'95% interval':>16}  aim"]
    for row in rows:
        sign = "<=" if row.at_most else ">="
        aim = "" if row.aim is None else f"{sign} {row.aim:.3g}{'' if row.reached else '   short of it'}"
        interval = f"{row.low:7.3f} to {row.high:5.3f}"
        lines.append(f"{row.metric:<{width}}  {row.value:7.3f}  {row.n:5d}  {interval:>16}  {aim}".rstrip())
    return "\n".join(lines)


def as_json(rows: Sequence[Row], **about: object) -> str:
    """One line of JSON: what `about` says, and the rows. Intervals that are not known are null."""
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(row).items()} for row in rows]
    return json.dumps({**about, "rows": plain})
