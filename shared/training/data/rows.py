"""Arrays on disk that are written one row at a time, and mapped: data sets are larger than memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shared.artifacts.files import atomic_path


def write_rows(path: Path, count: int, rows: Iterable[np.ndarray]) -> None:
    """An .npy file of `count` rows of one shape and dtype; one at a time is in memory."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        written = 0
        for row in rows:
            if not written:
                kind, shape = row.dtype, row.shape
                header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (count, *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            assert (row.dtype, row.shape) == (kind, shape), "rows alike"
            file.write(np.ascontiguousarray(row).tobytes())
            written += 1
        assert written == count, f"{count} rows"


def mapped_rows(path: Path) -> np.ndarray:
    """The array in the file; what is looked at comes into memory. Writing to it does not reach the file."""
    return np.load(path, mmap_mode="c")
