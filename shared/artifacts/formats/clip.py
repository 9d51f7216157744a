"""What every clip format works with: the frames, their rate, and the texts that travel along. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from shared.artifacts.formats.image_file import TAG
from shared.errors import InputError, KinoformError

MAX_FPS = 240
MAX_CLIP_BYTES = 4 * 1024**3  # of decoded frames; a longer clip has to be cut before it fits in memory


@dataclass(frozen=True)
class Clip:
    """Frames `t h w 3` uint8 RGB, frames a second, and the texts that the file carried (keys in lower case)."""

    frames: UInt8[np.ndarray, "t h w 3"]
    fps: float
    tags: dict[str, str] = field(default_factory=dict)


def checked_fps(fps: float) -> Fraction:
    """`fps` as a fraction that containers can hold; 24000/1001 and its like stay exact. InputError for no rate."""
    if not 0 < fps <= MAX_FPS:  # NaN is not, either
        raise InputError("fps", expected=f"a number above 0, up to {MAX_FPS}", got=fps)
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))


def comment_of(tags: Mapping[str, str], also: tuple[str, ...] = ()) -> str:
    """The text for a container's one comment. KinoformError for a key that is neither TAG nor in `also`."""
    unknown = sorted(set(tags) - {TAG, *also})
    if unknown:
        raise KinoformError("tags", expected=f"keys among {', '.join((TAG, *also))}", got=", ".join(unknown))
    return tags.get(TAG, "")


class Frames:
    """Decoded frames as they come, refused where they differ in size or would not fit in memory."""

    def __init__(self, source: object) -> None:
        self.source = source
        self.frames: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Take one more frame "h w 3". Raises InputError."""
        self.frames.append(frame)
        if frame.shape != self.frames[0].shape:
            raise InputError(f"clip {self.source}", expected="frames of one size", got=frame.shape)
        if len(self.frames) * frame.nbytes > MAX_CLIP_BYTES:
            got = f"over {len(self.frames)} frames"
            raise InputError(f"clip {self.source}", expected="a clip that fits in memory", got=got)

    def stacked(self) -> UInt8[np.ndarray, "t h w 3"]:
        """All of them. Raises InputError when there are none."""
        if not self.frames:
            raise InputError(f"clip {self.source}", expected="frames", got="none")
        return np.stack(self.frames)
