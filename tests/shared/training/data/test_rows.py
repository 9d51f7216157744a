"""Arrays on disk, row by row: what is written is what was given, whole or not at all."""

import numpy as np
import pytest

from shared.training.data.rows import mapped_rows, write_rows


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_rows_come_back_as_numpy_itself_reads_them(tmp_path, dtype):
    rows = np.random.default_rng(0).integers(0, 200, (5, 3, 4)).astype(dtype)
    write_rows(tmp_path / "a.npy", 5, (row[:, ::-1] for row in rows))  # strided ones, too
    for read in (np.load, mapped_rows):
        assert (read(tmp_path / "a.npy") == rows[:, :, ::-1]).all()
        assert read(tmp_path / "a.npy").dtype == dtype


def test_writing_to_what_is_mapped_does_not_reach_the_file(tmp_path):
    write_rows(tmp_path / "a.npy", 2, iter(np.zeros((2, 3))))
    mapped_rows(tmp_path / "a.npy")[0] = 1
    assert not np.load(tmp_path / "a.npy").any()


@pytest.mark.parametrize("other", [np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.float32)])
def test_an_unlike_row_leaves_no_file(tmp_path, other):
    with pytest.raises(AssertionError, match="rows alike"):
        write_rows(tmp_path / "a.npy", 2, iter([np.zeros((2, 3), np.uint8), other]))
    assert list(tmp_path.iterdir()) == []
