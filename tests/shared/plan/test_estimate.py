"""Estimates of small programs against sums by hand."""

import pytest
import torch
from torch import nn

from shared.compute.process_memory import resident_bytes
from shared.images.plan import repeats
from shared.plan.calibration import Calibration, load, save
from shared.plan.estimate import trace_run

WIDTH = 1024
WEIGHTS = 4 * WIDTH * WIDTH


def network() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH, bias=False)


def run(rows):
    def states(layer):
        with torch.no_grad():
            for _ in range(3):
                yield layer(torch.zeros(rows, WIDTH))

    return states


def trace(rows=256, **options):
    return trace_run(network, lambda layer: [layer], run(rows), device="cpu", **options)


def test_peak_is_base_and_weights_and_activations():
    found = trace(files=False).estimate("cpu", [])
    rows = 3 * 4 * 256 * WIDTH  # what goes in, what comes out, and the state before, which the caller still has
    assert found.weights == WEIGHTS
    assert found.kinds["weights"] == WEIGHTS
    assert found.kinds["activations"] == rows
    assert found.peak == sum(found.kinds.values())
    assert abs(found.kinds["base"] - resident_bytes()) < 100 * 2**20


def test_work_is_repeated_as_often_as_the_run_repeats_it():
    once = 2 * 256 * WIDTH * WIDTH
    assert trace().estimate("cpu", []).flops == 3 * once
    assert trace().estimate("cpu", [1, 10, 1]).flops == 12 * once


@pytest.mark.parametrize("steps", [3, 4, 20])
def test_a_short_run_stands_for_all_steps(steps):
    assert sum(repeats(steps)) == steps


def test_loading_counts_the_file_beside_what_is_made_of_it():
    assert trace(rows=1).loading == WEIGHTS * 3 // 2
    assert trace(rows=1).estimate("cpu", []).kinds["loading"] == WEIGHTS * 3 // 2


def test_more_rows_take_more():
    peaks = [trace(rows).estimate("cpu", []).peak - trace(rows).weights for rows in (256, 2048, 8192)]
    assert peaks == sorted(peaks)


def test_time_is_the_roofline(tmp_path):
    found = trace(files=False).estimate("cpu", [])
    products = Calibration(single=1e9, half=1e9, small=1e30, large=1e30, overhead=0.0)
    assert abs(products.seconds(found) - found.flops / 1e9) < 1e-6
    calls = Calibration(single=1e30, half=1e30, small=1e30, large=1e30, overhead=1.0)
    assert round(calls.seconds(found)) == sum(len(ops) for _, ops in found.ops)
    assert load(tmp_path / "c.json") is None
    save(calls, tmp_path / "new" / "c.json")
    assert load(tmp_path / "new" / "c.json") == calls
