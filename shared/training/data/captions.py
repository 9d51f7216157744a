"""Which file has which caption: the layouts that people keep their data in, all read into entries.

An index names files of its folder and of folders below: JSON lines (captions.jsonl, or metadata.jsonl of the Hub's
image and video folders) or CSV with a header. Without one, a `.txt` of the same name lies beside each file. No torch.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, NotRequired, TypedDict

from shared.artifacts.formats.frame_folder import ABOUT
from shared.errors import InputError

INDEXES = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv")  # the first that is there counts
FILE_KEYS = ("file", "file_name", "filename", "image", "video", "path")
CAPTION_KEYS = ("caption", "text", "prompt")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff")
CLIP_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".apng")
LAYOUTS = "captions.jsonl, metadata.jsonl, captions.csv or a .txt beside each file"


class Entry(TypedDict):
    """file: below its folder, with slashes. caption: on one line, it may be empty. cameras: of a clip whose frames are
    views of a thing that stands still, azimuth and elevation of each in degrees. start: "given" for a clip that is
    only learned from with its first frame given: its caption does not say how it begins."""

    file: str
    caption: str
    cameras: NotRequired[list[tuple[float, float]]]
    start: NotRequired[Literal["given"]]


@dataclass
class Source:
    """A folder with captions. layout: the name of its index, or ".txt". uncaptioned: files that no caption names."""

    folder: Path
    layout: str
    entries: list[Entry] = field(default_factory=list)
    uncaptioned: list[str] = field(default_factory=list)


def find_sources(data: Path, caption: str | None = None) -> list[Source]:
    """Every folder with captions, `data` itself or below, in order; hidden ones are passed over.

    An index counts for its folder and all below that have none of their own. caption: of files that have none; they are
    `uncaptioned` where it is None. Raises InputError for an index that cannot
    be read, and where there is no caption at all.
    """
    owners: dict[Path, Path | None] = {}
    files: dict[Path | None, list[Path]] = {None: []}
    for folder, names in _walk(data):
        if any(name in INDEXES for name in names):
            owners[folder] = folder
            files[folder] = []
        else:
            owners[folder] = owners.get(folder.parent)
        files[owners[folder]] += [folder / name for name in names if is_media(folder / name)]
    sources = [_indexed(folder, below) for folder, below in files.items() if folder is not None]
    beside = _beside(data, files[None])
    if beside.entries or (beside.uncaptioned and (sources or caption is not None)):
        sources.insert(0, beside)
    sources = sorted(sources, key=lambda source: source.folder)
    if caption is not None:
        for source in sources:
            source.entries += [Entry(file=file, caption=caption) for file in source.uncaptioned]
            source.uncaptioned = []
    if not any(source.entries for source in sources):
        raise _no_captions(data, len(beside.uncaptioned))
    return sources


def read_captions(folder: Path) -> list[Entry]:
    """The entries of one folder: those of its index, or of the texts beside its files.

    Raises InputError naming the first bad line, and where there is none.
    """
    index = _index(folder)
    if index is not None:
        return _read_index(index)
    source = _beside(folder, [path / name for path, names in _walk(folder) for name in names if is_media(path / name)])
    if not source.entries:
        raise _no_captions(folder, len(source.uncaptioned))
    return source.entries


def caption_from_name(file: str) -> str:
    """What a file's name says: "clips/roller_coaster-2.mp4" -> "roller coaster 2"."""
    return " ".join(PurePosixPath(file).stem.replace("_", " ").replace("-", " ").split())


def media_below(data: Path) -> list[str]:
    """All pictures and clips of a folder and those below it, by their path from there."""
    return [
        (path / name).relative_to(data).as_posix()
        for path, names in _walk(data)
        for name in names
        if is_media(path / name)
    ]


def is_media(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in PICTURE_SUFFIXES or suffix in CLIP_SUFFIXES or (path / ABOUT).is_file()


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without the mark that Windows writes. InputError names the line that is none."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}", expected="a file that can be read", got=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        hint = "Such files come from editors that write Windows-1252: save it as UTF-8"
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            hint = "It is UTF-16: save it as UTF-8"
        raise InputError(
            f"{path} line {line}",
            expected="text in UTF-8",
            got=f"the byte 0x{error.object[error.start]:02X}",
            hint=hint,
        ) from error


def _walk(data: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder that is not hidden, with the sorted names in it: of files, and of folders that are one clip."""
    seen = set()
    for place, folders, files in os.walk(data, followlinks=True):
        status = os.stat(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (status.st_dev, status.st_ino) in seen:  # a circle of links
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        clips = [name for name in folders if (Path(place) / name / ABOUT).is_file()]
        folders[:] = [name for name in folders if name not in clips]
        yield Path(place), sorted([*(name for name in files if not name.startswith(".")), *clips])


def _index(folder: Path) -> Path | None:
    return next((folder / name for name in INDEXES if (folder / name).is_file()), None)


def _indexed(folder: Path, files: list[Path]) -> Source:
    index = _index(folder)
    assert index is not None
    entries = _read_index(index)
    named = {entry["file"] for entry in entries}
    below = [file.relative_to(folder).as_posix() for file in files]
    return Source(folder, index.name, entries, [file for file in below if file not in named])


def _beside(folder: Path, files: list[Path]) -> Source:
    source = Source(folder, ".txt")
    for file in files:
        name, text = file.relative_to(folder).as_posix(), file.with_suffix(".txt")
        if text.is_file():
            source.entries.append(Entry(file=name, caption=_one_line(read_text(text))))
        else:
            source.uncaptioned.append(name)
    source.entries.sort(key=lambda entry: entry["file"])
    return source


def _read_index(index: Path) -> list[Entry]:
    read = _read_csv if index.suffix == ".csv" else _read_json_lines
    entries = [_entry(values, index, line) for line, values in read(index)]
    if not entries:
        raise InputError(f"{index}", expected="at least one line with a file and its caption", got="none")
    return entries


def _read_json_lines(index: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(read_text(index).split("\n"), 1):  # not splitlines: JSON may hold U+2028
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{index} line {number}", expected="a JSON object", got=line) from error
        if not isinstance(values, dict):
            raise InputError(f"{index} line {number}", expected="a JSON object", got=line)
        yield number, values


def _read_csv(index: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    text = read_text(index)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"{index} line {rows.line_num}", expected=f"{len(columns)} columns, as in the first line",
                    got=len(row), hint=f'Put double quotes around a caption that holds "{delimiter}"',
                )  # fmt: skip
            yield rows.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{index} line {rows.line_num}", expected="comma-separated values", got=str(error)) from error


def _entry(values: Mapping[str, object], index: Path, line: int) -> Entry:
    where = f"{index} line {line}"
    texts = []
    for what, keys in (("file", FILE_KEYS), ("caption", CAPTION_KEYS)):
        value = next((values[key] for key in keys if key in values), None)
        if not isinstance(value, str):
            got = f"a {what} that is no text" if value is not None else ", ".join(map(str, values)) or "nothing"
            also = ", ".join(keys[1:])
            raise InputError(where, expected=f'"file" and "caption" (for "{what}" also {also})', got=got)
        texts.append(value)
    entry = Entry(file=_inside(texts[0].strip(), index.parent, where), caption=_one_line(texts[1]))
    if "cameras" in values:
        entry["cameras"] = _cameras(values["cameras"], where)
    if "start" in values:
        if values["start"] != "given":
            raise InputError(where, expected='"start" as "given", or without it', got=values["start"])
        entry["start"] = "given"
    return entry


def _cameras(value: Any, where: str) -> list[tuple[float, float]]:
    try:
        pairs = [(float(azimuth), float(elevation)) for azimuth, elevation in value]
        if pairs and all(math.isfinite(angle) for pair in pairs for angle in pair):
            return pairs
    except (TypeError, ValueError):
        pass
    raise InputError(where, expected='"cameras" as a list of [azimuth, elevation] in degrees, one a frame', got=value)


def _inside(name: str, folder: Path, where: str) -> str:
    """A file's name as it is in the folder: backslashes of Windows and decomposed letters of macOS are understood."""
    if "\0" not in name and "\\" in name and not (folder / name).exists():
        name = name.replace("\\", "/")
    path = PurePosixPath(name)
    strange = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or "://" in name
    if strange or not path.parts or not name.isprintable():
        raise InputError(where, expected=f"a file inside {folder}", got=name or "an empty name")
    forms = [path.as_posix(), *(unicodedata.normalize(form, path.as_posix()) for form in ("NFC", "NFD"))]
    return next((form for form in forms if (folder / form).exists()), forms[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _no_captions(data: Path, uncaptioned: int) -> InputError:
    if not uncaptioned:
        return InputError("data folder", expected=f"{LAYOUTS} in {data} or in a folder of it", got="none")
    return InputError(
        "data folder", expected=f"captions in {data}: {LAYOUTS}", got=f"{uncaptioned} files without a caption",
        hint=f"If their names say what they show: kinoform data captions {data}",
    )  # fmt: skip
