import numpy as np
import pytest
import torch

from shared.artifacts.pixels import from_uint8, to_uint8
from shared.errors import KinoformError


def test_every_level_survives_the_way_there_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_uint8(from_uint8(levels)), levels)


def test_against_the_formula_in_float64_pixel_by_pixel() -> None:
    pixels = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    result = to_uint8(pixels)
    for index in np.ndindex(2, 3, 5, 7):
        b, c, h, w = index
        exact = min(max((float(pixels[index]) + 1) / 2 * 255, 0.0), 255.0)
        assert abs(int(result[b, h, w, c]) - exact) <= 0.5 + 1e-4


def test_any_number_of_leading_axes() -> None:
    pixels = torch.zeros(2, 5, 3, 4, 6)
    assert to_uint8(pixels).shape == (2, 5, 4, 6, 3)
    assert np.array_equal(to_uint8(pixels)[1, 2], to_uint8(pixels[1, 2]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    pixels = torch.zeros(3, 4, 4)
    pixels[1, 2, 3] = bad
    with pytest.raises(KinoformError, match="1 NaN or infinite of 48") as caught:
        to_uint8(pixels)
    assert caught.value.exit_code == 1


def test_half_precision_and_gradients_are_accepted() -> None:
    pixels = torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert (to_uint8(pixels) == 191).all()  # 1.5 * 127.5 = 191.25
