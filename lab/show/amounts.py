"""Amounts as people read them."""

from __future__ import annotations


def as_size(size: float) -> str:
    """Bytes, such as "1.50 GiB" and "39 MiB"."""
    for unit, name, digits in ((2**30, "GiB", 2), (2**20, "MiB", 0), (2**10, "KiB", 0)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size:.0f} bytes"


def as_count(number: int) -> str:
    """Such as "860 M" and "1.1 k"."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)
