"""What a data folder holds, in numbers: sizes, lengths, captions, words, duplicates, what cannot be used. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from shared.training.data.groups import DataFolder, LeftOut, read_data, some
from shared.training.data.inspection import Seen

FREQUENT = 20  # words that a survey names
NEAR_BITS = 3  # of 64 that may differ between near duplicates, in each frame that is compared
NEAR_LEVELS = 4  # that their mean colours may differ by
MOST_COMPARED = 20_000  # files among which near duplicates are looked for: the time grows with the square
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Spread:
    """Of some numbers the smallest, the middle and the largest; all 0 of none."""

    least: float = 0
    middle: float = 0
    most: float = 0

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Spread:
        values = list(numbers)
        return cls(min(values), median(values), max(values)) if values else cls()

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least:g}"
        return f"{self.least:g} to {self.most:g} (median {self.middle:g})"


@dataclass(frozen=True)
class Survey:
    """Pictures and clips that can be used, and their captions; aspect is width / height, words are in lower case.

    duplicates: groups of files with equal bytes; near_duplicates: of files that look alike (their first and a late
    frame in 9x8 grey pixels, and their mean colours). refusal: why nothing should be trained on it, or "".
    """

    path: Path
    layouts: tuple[str, ...]
    pictures: int
    clips: int
    bytes: int
    width: Spread
    height: Spread
    aspect: Spread
    frames: Spread
    fps: Spread
    captions: int
    distinct_captions: int
    empty_captions: int
    caption_words: Spread
    words: int
    frequent_words: tuple[tuple[str, int], ...]
    words_once: int
    duplicates: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[tuple[str, ...], ...]
    left_out: tuple[LeftOut, ...]
    uncaptioned: tuple[str, ...]
    refusal: str

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of `kinoform train` that there is data for, in order."""
        if self.refusal:
            return ()
        return ("autoencoder", "image", *(("video",) if self.clips else ()), "scorer")


def survey(data: Path, cache_dir: Path | None = None) -> Survey:
    """Reads every file below `data`; see `shared.training.data.groups.read_data` for caches and errors."""
    return survey_of(read_data(data, cache_dir))


def survey_of(data: DataFolder) -> Survey:
    """The numbers of what has been read."""
    usable: dict[str, Seen] = {}
    captions: list[str] = []
    kinds: Counter[str] = Counter()
    for group in data.groups:
        place = group.folder.relative_to(data.path)
        for entry, seen in zip(group.entries, group.seen, strict=True):
            usable[(place / entry["file"]).as_posix()] = seen
            captions.append(entry["caption"])
        kinds[group.kind] += len({entry["file"] for entry in group.entries})
    words = Counter(word for caption in captions for word in words_of(caption))
    clips = [seen for seen in usable.values() if seen.frames > 1]
    refusal = data.refusal()
    return Survey(
        path=data.path,
        layouts=data.layouts,
        pictures=kinds["picture"],
        clips=kinds.total() - kinds["picture"],
        bytes=sum(seen.bytes for seen in usable.values()),
        width=Spread.of(seen.width for seen in usable.values()),
        height=Spread.of(seen.height for seen in usable.values()),
        aspect=Spread.of(round(seen.width / seen.height, 3) for seen in usable.values()),
        frames=Spread.of(seen.frames for seen in clips),
        fps=Spread.of(seen.fps for seen in clips),
        captions=len(captions),
        distinct_captions=len(set(captions)),
        empty_captions=captions.count(""),
        caption_words=Spread.of(len(words_of(caption)) for caption in captions),
        words=len(words),
        frequent_words=tuple(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]),
        words_once=sum(count == 1 for count in words.values()),
        duplicates=_equal(usable),
        near_duplicates=_alike(usable),
        left_out=data.left_out,
        uncaptioned=data.uncaptioned,
        refusal=str(refusal or ""),
    )


def words_of(caption: str) -> list[str]:
    return WORD.findall(caption.casefold())


def survey_line(survey: Survey) -> str:
    """The survey in a line: "80 clips, 128x128, 32 frames at 16 fps, 83 words; 1 left out: a.png (an empty file)"."""
    counts = [(survey.pictures, "picture"), (survey.clips, "clip")]
    parts = [f"{count} {name}{'s' * (count != 1)}" for count, name in counts if count]
    if not parts:
        parts = ["nothing that can be used"]
    else:
        parts.append(sizes(survey))
    if survey.clips:
        parts.append(f"{survey.frames} frames at {survey.fps} fps")
    parts.append(f"{survey.words} words")
    line = ", ".join(parts)
    if survey.left_out:
        line += f"; {len(survey.left_out)} left out: {some(survey.left_out)}"
    if survey.uncaptioned:
        line += f"; {len(survey.uncaptioned)} without a caption"
    return line


def sizes(survey: Survey) -> str:
    """Width and height in pixels: "128x128", "64x64 to 1920x1080"."""
    least = f"{survey.width.least:g}x{survey.height.least:g}"
    most = f"{survey.width.most:g}x{survey.height.most:g}"
    return least if least == most else f"{least} to {most}"


def _equal(files: dict[str, Seen]) -> tuple[tuple[str, ...], ...]:
    by_digest: dict[str, list[str]] = {}
    for file, seen in files.items():
        by_digest.setdefault(seen.digest, []).append(file)
    return tuple(tuple(same) for same in by_digest.values() if len(same) > 1)


def _alike(files: dict[str, Seen]) -> tuple[tuple[str, ...], ...]:
    """Files that look alike but are not equal, each with those before it that it is alike."""
    first = {seen.digest: file for file, seen in reversed(files.items())}  # of equal files, one
    names = sorted(first.values())[:MOST_COMPARED]
    if len(names) < 2:
        return ()
    looks = [files[name].look for name in names]
    bits = np.array([[look[0][0], look[-1][0]] for look in looks], np.uint64)
    colours = np.array([[*look[0][1:], *look[-1][1:]] for look in looks], np.int16)
    lengths = np.array([len(look) for look in looks])
    group = list(range(len(names)))  # the first that each is alike, followed to its own first
    for index in range(1, len(names)):
        near = (np.bitwise_count(bits[:index] ^ bits[index]) <= NEAR_BITS).all(1)
        near &= (np.abs(colours[:index] - colours[index]) <= NEAR_LEVELS).all(1)
        near &= lengths[:index] == lengths[index]
        found = np.flatnonzero(near)
        if len(found):
            group[index] = group[int(found[0])]
    return _collected(names, group)


def _collected(names: Sequence[str], group: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    members: dict[int, list[str]] = {}
    for name, leader in zip(names, group, strict=True):
        members.setdefault(leader, []).append(name)
    return tuple(tuple(alike) for alike in members.values() if len(alike) > 1)
