"""Which optional packages are installed: looked up once, since kernels are chosen at every call."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec


@cache
def installed(name: str) -> bool:
    """Whether a top-level package can be imported; it is not imported."""
    return find_spec(name) is not None
