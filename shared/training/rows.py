"""Arrays on disk that are written one row at a time, and mapped: data sets are larger than memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shared.errors import InputError
from shared.files import atomic_path


def write_rows(
    path: Path, count: int, rows: Iterable[np.ndarray], *, expected: str = "one shape", hint: str = ""
) -> None:
    """An .npy file of `count` rows of one shape and dtype; one at a time is in memory.

    Raises InputError, as `expected` and `hint` say, for a row that is shaped otherwise than the first.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        first: np.ndarray | None = None
        written = 0
        for row in rows:
            if first is None:
                first = row
                kind = np.lib.format.dtype_to_descr(row.dtype)
                header = {"descr": kind, "fortran_order": False, "shape": (count, *row.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            if (row.shape, row.dtype) != (first.shape, first.dtype):
                got = f"{first.shape}, and {row.shape} in row {written}"
                raise InputError(f"{path.parent}", expected=expected, got=got, hint=hint)
            file.write(np.ascontiguousarray(row).tobytes())
            written += 1
        assert written == count, f"{count} rows"


def mapped_rows(path: Path) -> np.ndarray:
    """The array in the file; what is looked at comes into memory. Writing to it does not reach the file."""
    return np.load(path, mmap_mode="c")
