"""The picture of a training's losses."""

import numpy as np
import pytest

from lab.show.loss_plot import LINE, loss_plot, running_median


def line_of(picture):
    """Height of the line over the columns that it crosses, from the left."""
    rows, columns = np.nonzero((picture == LINE).all(axis=-1))
    return [rows[columns == column].mean() for column in sorted(set(columns.tolist()))]


def test_losses_that_fall_go_down_and_those_that_rise_go_up():
    falling = line_of(loss_plot(range(100), [1 / (1 + i) for i in range(100)], "falls"))
    assert falling[0] < falling[len(falling) // 2] < falling[-1]
    rising = line_of(loss_plot(range(100), [float(i) for i in range(100)], "rises"))
    assert rising[0] > rising[-1]


def test_one_that_is_out_of_the_way_does_not_bend_the_line():
    values = np.ones(100)
    values[50] = 50.0
    assert (running_median(values) == 1).all()
    assert np.ptp(line_of(loss_plot(range(100), values.tolist(), "flat"))) == 0


@pytest.mark.parametrize("losses", [[], [0.5], [0.5, 0.5], [-1.0, 2.0], [float("nan"), 1.0]])
def test_few_and_strange_losses_are_a_picture_too(losses):
    picture = loss_plot(range(len(losses)), losses, "few")
    assert picture.dtype == np.uint8
    assert picture.min() < 255  # the title at least
