"""What a prompt says about where the camera is. Imports no torch."""

from __future__ import annotations

VIEW_WORDS = ("front view", "side view", "back view", "overhead view")


def view_word(azimuth: float, elevation: float) -> str:
    """Which of VIEW_WORDS says where a camera is (degrees, as in `shared.cameras`)."""
    if elevation > 60:
        return "overhead view"
    turned = abs((azimuth + 180) % 360 - 180)
    return "front view" if turned < 45 else "side view" if turned <= 135 else "back view"
