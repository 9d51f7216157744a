"""Words for colours: which of some known ones is nearest to another.

Distances are CIE94 in CIELAB (D65), with its weights for textiles, which count lightness half: "navy" is nearer to
"blue" than to "black".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import atan2, hypot, sin, sqrt

from PIL import ImageColor

FAR = 22.0  # beyond this two colours have no more in common than gray and white

# What people call colours and CSS does not, or (azure, violet) paints otherwise.
EVERYDAY = {
    "amber": "#ffbf00", "apricot": "#fbceb1", "auburn": "#a52a2a", "azure": "#007fff", "blond": "#faf0be",
    "bronze": "#cd7f32", "burgundy": "#800020", "caramel": "#c68e4a", "carmine": "#960018", "cerise": "#de3163",
    "cerulean": "#2a52be", "champagne": "#f7e7ce", "charcoal": "#36454f", "claret": "#7f1734", "cobalt": "#0047ab",
    "copper": "#b87333", "cream": "#fffdd0", "ebony": "#28231d", "ecru": "#c2b280", "emerald": "#2ecc71",
    "golden": "#ffd700", "jade": "#00a86b", "jet": "#0a0a0a", "lemon": "#fff44f", "lilac": "#c8a2c8",
    "mahogany": "#c04000", "mauve": "#b784a7", "mint": "#98ff98", "mustard": "#e1ad01", "ochre": "#cc7722",
    "onyx": "#353839", "peach": "#ffcba4", "periwinkle": "#ccccff", "pearl": "#f0eae0", "pitch": "#0a0a0a",
    "rose": "#ff007f", "ruby": "#e0115f", "russet": "#80461b", "rust": "#b7410e", "saffron": "#f4c430",
    "sapphire": "#0f52ba", "scarlet": "#ff2400", "sepia": "#704214", "tangerine": "#f28500", "taupe": "#483c32",
    "ultramarine": "#3f00ff", "umber": "#635147", "vermilion": "#e34234", "violet": "#8f00ff",
}  # fmt: skip

Lab = tuple[float, float, float]


def is_colour(word: str) -> bool:
    """Whether `word`, in lower case, is a colour by CSS or in everyday use."""
    return word in EVERYDAY or word in ImageColor.colormap


def nearest_colour(word: str, known: Iterable[str]) -> str | None:
    """The colour among `known` that looks most like the colour `word`; None where it is no colour or none is near."""
    if not is_colour(word):
        return None
    wanted = _lab(word)
    distances = {other: _distance(_lab(other), wanted) for other in known if is_colour(other)}
    best = min(distances, key=distances.__getitem__, default=None)
    return best if best is not None and distances[best] <= FAR else None


@cache
def _lab(word: str) -> Lab:
    """The CIELAB coordinates of a colour word (CIE 15:2004; sRGB by IEC 61966-2-1)."""
    levels = ImageColor.getrgb(EVERYDAY.get(word, word))[:3]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in levels))
    x = 0.4124564 * red + 0.3575761 * green + 0.1804375 * blue
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = 0.0193339 * red + 0.1191920 * green + 0.9503041 * blue
    fx, fy, fz = (
        t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x / 0.95047, y, z / 1.08883)
    )
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def _distance(reference: Lab, other: Lab) -> float:
    """CIE94 (CIE 116-1995) with k_L = 2, K_1 = 0.048, K_2 = 0.014."""
    chroma, other_chroma = hypot(*reference[1:]), hypot(*other[1:])
    angle = atan2(reference[2], reference[1]) - atan2(other[2], other[1])
    hue = 2 * sqrt(chroma * other_chroma) * sin(angle / 2)
    parts = (
        (reference[0] - other[0]) / 2,
        (chroma - other_chroma) / (1 + 0.048 * chroma),
        hue / (1 + 0.014 * chroma),
    )
    return hypot(*parts)
