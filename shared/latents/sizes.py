"""Which sizes of pictures a codec takes: sides that its factor divides. Imports no torch."""

from __future__ import annotations

from shared.errors import InputError


def check_size(width: int, height: int, factor: int) -> None:
    """Raises InputError for a side in pixels that `factor` (pixels a latent) does not divide."""
    check_multiple("width", width, factor)
    check_multiple("height", height, factor)


def check_multiple(name: str, size: int, factor: int) -> None:
    """Raises InputError, which names the nearest, for a `size` in pixels that `factor` does not divide."""
    if size < 1 or size % factor:
        below = size // factor * factor
        nearest = f"{below} or {below + factor}" if below > 0 else f"{factor}"
        raise InputError(name, expected=f"a multiple of {factor} pixels, such as {nearest}", got=size)
