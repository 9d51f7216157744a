import numpy as np
import pytest

from shared.artifacts.contact_sheet import GAP, TEXT_SIZE, contact_sheet, tiled
from shared.errors import KinoformError


def flat(value: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_every_picture_is_on_the_sheet_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    sheet = contact_sheet([[flat(10), noise], [flat(30, 4, 4)]])
    assert sheet.shape == (GAP + 8 + GAP + 4 + GAP, GAP + 8 + GAP + 6 + GAP, 3)
    assert np.array_equal(sheet[GAP : GAP + 5, 2 * GAP + 8 : 2 * GAP + 14], noise)
    assert (sheet[2 * GAP + 8 : 2 * GAP + 12, GAP : GAP + 4] == 30).all()
    assert (sheet[:GAP] == 255).all()


def test_enlarging_repeats_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    sheet = contact_sheet([[noise]], scale=3)
    assert np.array_equal(sheet[GAP : GAP + 9 : 3, GAP : GAP + 12 : 3], noise)
    assert np.array_equal(sheet[GAP + 2 : GAP + 9 : 3, GAP + 2 : GAP + 12 : 3], noise)


def test_a_label_is_written_above_its_row_and_fits() -> None:
    sheet = contact_sheet([[flat(200)], [flat(200)]], ["a red cube\non a sphere", ""])
    above = sheet[GAP : GAP + TEXT_SIZE]
    assert (above < 100).any()
    assert (above[:, -GAP:] == 255).all()
    second = GAP + TEXT_SIZE + GAP + 8 + GAP
    assert (sheet[second : second + TEXT_SIZE] == 255).all()


def test_what_is_no_sheet() -> None:
    for rows in ([], [[]]):
        with pytest.raises(KinoformError, match="at least one image"):
            contact_sheet(rows)
    with pytest.raises(KinoformError, match="one for each of 1 rows, got 2"):
        contact_sheet([[flat(1)]], ["a", "b"])
    with pytest.raises(KinoformError, match=r"expected uint8 \(h, w, 3\), got float64"):
        contact_sheet([[np.zeros((2, 2, 3))]])


def test_pictures_on_one():
    assert np.array_equal(tiled([flat(1, 4, 6), flat(2, 4, 6)]), np.concatenate([flat(1, 4, 6), flat(2, 4, 6)], axis=1))
    grid = tiled([flat(value, 4, 6) for value in range(1, 17)])
    assert grid.shape == (8, 24, 3)
    assert grid[::4, ::6, 0].tolist() == [[1, 3, 5, 7], [10, 12, 14, 16]]
    assert tiled([flat(value, 4, 6) for value in range(1, 6)])[::4, ::6, 0].tolist() == [[1, 2, 3, 4], [5, 0, 0, 0]]
