"""Intervals against scipy's, and what a table says."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from benchmarks.report import as_json, mean, medians, share, table, wilson


@given(n=st.integers(1, 500), data=st.data())
def test_wilson_is_scipys(n, data):
    successes = data.draw(st.integers(0, n))
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_shares_and_means():
    row = share("a", [True, True, False, True], aim=0.5)
    assert (row.value, row.n, row.reached) == (0.75, 4, True)
    row = mean("b", [1.0, 2.0, 3.0], aim=1.5, at_most=True)
    assert (row.value, row.reached) == (2.0, False)
    assert row.high - row.value == pytest.approx(1.959964 * 1 / math.sqrt(3))
    assert share("c", np.array([True])).reached is None


def test_table_and_json_hold_every_row():
    rows = [share("images", [True, False], aim=0.95), mean("one asset", [0.7])]
    text = table(rows).splitlines()
    assert len(text) == 3
    assert "0.500" in text[1]
    assert "short of it" in text[1]
    plain = json.loads(as_json(rows, model="world"))
    assert plain["model"] == "world"
    assert plain["rows"][0]["value"] == 0.5
    assert plain["rows"][1]["low"] is None  # one value has no interval


def test_medians_keep_the_least_and_the_most():
    rounds = [[share("right", [True] * good + [False] * (4 - good), 0.5)] for good in (1, 4, 2)]
    (row,) = medians(rounds)
    assert (row.metric, row.value, row.low, row.high, row.n, row.aim) == ("right (median of 3)", 0.5, 0.25, 1.0, 4, 0.5)
    assert medians(rounds[:1]) == rounds[0]
