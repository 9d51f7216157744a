"""What a prompt says about where the camera is (DreamFusion, section 3.2). Imports no torch."""

from __future__ import annotations

VIEW_WORDS = ("front view", "side view", "back view", "overhead view")


def view_word(azimuth: float, elevation: float) -> str:
    """Which of VIEW_WORDS says where a camera is (degrees, as in `shared.cameras`)."""
    if elevation > 60:
        return "overhead view"
    turned = abs((azimuth + 180) % 360 - 180)
    return "front view" if turned < 45 else "side view" if turned <= 135 else "back view"


def without_view_words(prompt: str) -> str:
    """The prompt without view words at its end: they are for the camera to say."""
    text = prompt.strip()
    for word in VIEW_WORDS:
        if text.lower().endswith(word):
            text = text[: -len(word)].rstrip().removesuffix(",").rstrip()
    return text


def view_prompts(prompt: str) -> dict[str, str]:
    """The prompt for each of VIEW_WORDS: "a blue chair" gives "a blue chair, front view" and so on."""
    base = without_view_words(prompt)
    return {word: f"{base}, {word}" for word in VIEW_WORDS}
