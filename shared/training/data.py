"""Reads data folders (captions.jsonl beside pictures or clips) into arrays, once, and caches what is costly to make."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from shared.codec import Codec
from shared.errors import InputError
from shared.media import IMAGE_SUFFIXES, read_clip, read_image
from shared.pixels import from_uint8
from shared.training.rows import mapped_rows, write_rows

PIXELS = "pixels.npy"  # the cache of decoded pictures; clips have one for each number of frames, pixels-16.npy
CLIP_FRAMES = 16  # that a clip is read at where any number will do


@dataclass(frozen=True)
class MediaFolder:
    """pixels: uint8 "n t h w 3" (t = 1 for pictures), mapped from the file `cache`; captions: n strings."""

    path: Path
    cache: Path
    pixels: np.ndarray
    captions: list[str]

    @property
    def frames(self) -> int:
        return self.pixels.shape[1]


def find_folders(data: Path) -> list[Path]:
    """`data` itself or its direct subfolders, those that hold a captions.jsonl."""
    found = [p.parent for p in [data / "captions.jsonl", *sorted(data.glob("*/captions.jsonl"))] if p.is_file()]
    if not found:
        raise InputError("data folder", expected=f"captions.jsonl in {data} or in a folder of it", got="none")
    return found


def read_captions(folder: Path) -> list[dict[str, object]]:
    """The lines of captions.jsonl. Raises InputError naming the first bad line."""
    try:
        text = (folder / "captions.jsonl").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder}/captions.jsonl", expected="a text file in UTF-8", got=str(error)) from error
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{folder}/captions.jsonl line {number}", expected="a JSON object", got=line) from error
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file", "caption")):
            raise InputError(f"{folder}/captions.jsonl line {number}", expected='"file" and "caption"', got=line)
        lines.append(entry)
    if not lines:
        raise InputError(f"{folder}/captions.jsonl", expected="at least one line", got="an empty file")
    return lines


@dataclass(frozen=True)
class DataSize:
    """pictures: of a data folder, the frames of its clips among them. captions: different ones, of its clips."""

    pictures: int = 0
    clips: int = 0
    captions: int = 0


def data_size(data: Path, *, frames: int | None = None) -> DataSize:
    """How much there is below `data`; frames: as in `load_media`."""
    pictures = clips = 0
    captions = set()
    for folder in find_folders(data):
        entries = read_captions(folder)
        _, length = _cache(folder, entries, frames)
        pictures += len(entries) * length
        if length > 1:
            clips += len(entries)
            captions |= {entry["caption"] for entry in entries}
    return DataSize(pictures, clips, len(captions))


def load_media(folder: Path, *, size: int = 64, frames: int | None = None, repeat: bool = True) -> MediaFolder:
    """Decodes a folder once into a file beside the captions and maps that file from then on.

    Pictures are cropped to the middle square and resized to `size`; clips are resampled to `frames`, evenly in time.
    None takes what is cached already, or CLIP_FRAMES. repeat: whether a clip with fewer frames may show some of them
    again; InputError where not.
    """
    entries = read_captions(folder)
    captions = [str(entry["caption"]) for entry in entries]
    cache, length = _cache(folder, entries, frames)
    if not cache.is_file() or cache.stat().st_mtime < (folder / "captions.jsonl").stat().st_mtime:
        if len({_is_picture(entry) for entry in entries}) > 1:
            raise InputError(f"{folder}", expected="only pictures or only clips", got="a mix", hint="Use two folders.")
        decoded = (_decode(folder / str(entry["file"]), size, length, repeat) for entry in entries)
        with _little_garbage():
            write_rows(cache, len(entries), decoded)
    pixels = mapped_rows(cache)
    if len(pixels) != len(captions) or pixels.shape[2:] != (size, size, 3):
        raise InputError(
            str(cache), expected=f"{len(captions)} samples of {size}x{size}", got=pixels.shape, hint="Delete the file."
        )
    return MediaFolder(folder, cache, pixels, captions)


def _cache(folder: Path, entries: Sequence[dict[str, object]], frames: int | None) -> tuple[Path, int]:
    """The file of a folder's pixels, and how many frames a sample of it has."""
    if _is_picture(entries[0]):
        return folder / PIXELS, 1
    if frames is None:
        there = sorted(int(file.stem.rpartition("-")[2]) for file in folder.glob("pixels-*.npy"))
        frames = there[0] if there else CLIP_FRAMES
    return folder / f"pixels-{frames}.npy", frames


def _is_picture(entry: dict[str, object]) -> bool:
    return Path(str(entry["file"])).suffix.lower() in IMAGE_SUFFIXES


@contextmanager
def _little_garbage() -> Iterator[None]:
    """imageio collects garbage twice a video. Over all that torch brings this takes ten times as long as decoding a
    short clip, so what is there already is left out of it.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _decode(path: Path, size: int, frames: int, repeat: bool) -> np.ndarray:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        pictures = read_image(path)[None]
    else:
        clip = read_clip(path).frames
        if len(clip) < frames and not repeat:
            raise InputError(
                f"clip {path}", expected=f"{frames} frames", got=len(clip), hint="Use --fineness 1, or finer clips"
            )
        pictures = clip[np.linspace(0, len(clip) - 1, frames).round().astype(int)]
    return np.stack([_fit(p, size) for p in pictures])


def _fit(picture: np.ndarray, size: int) -> np.ndarray:
    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return picture
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(picture[top : top + side, left : left + side]))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def draw_frames(
    folders: Sequence[MediaFolder], count: int, clip_fraction: float, generator: torch.Generator
) -> list[tuple[int, int, int]]:
    """`count` random (folder, sample, frame): pictures, and frames of clips in the given share where there are both."""
    kinds: dict[bool, list[int]] = {False: [], True: []}
    for index, folder in enumerate(folders):
        kinds[folder.frames > 1].append(index)
    if not (kinds[False] and kinds[True]):
        clip_fraction = float(bool(kinds[True]))
    drawn = []
    for u in torch.rand(count, 4, generator=generator, dtype=torch.float64).tolist():
        chosen = kinds[u[0] < clip_fraction]
        index = chosen[int(u[1] * len(chosen))]
        drawn.append((index, int(u[2] * len(folders[index].pixels)), int(u[3] * folders[index].frames)))
    return drawn


def draw_pictures(
    folders: Sequence[MediaFolder], count: int, clip_fraction: float, generator: torch.Generator
) -> tuple[Float[Tensor, "b 3 h w"], list[str]]:
    """`count` pictures in [-1, 1] with their captions, as `draw_frames` draws them."""
    drawn = draw_frames(folders, count, clip_fraction, generator)
    pixels = np.stack([folders[folder].pixels[sample, frame] for folder, sample, frame in drawn])
    return from_uint8(pixels), [folders[folder].captions[sample] for folder, sample, _ in drawn]


@torch.no_grad()
def load_latents(folder: MediaFolder, codec: Codec, batch: int = 64) -> Float[Tensor, "n t c h w"]:
    """The folder's latents (float16), encoded once, cached beside it under the codec's fingerprint, and mapped."""
    digest = hashlib.sha256(json.dumps([folder.cache.name, codec.vae.config["scaling_factor"]]).encode())
    for tensor in codec.vae.state_dict().values():
        digest.update(tensor.detach().float().numpy().tobytes())
    cache = folder.path / f"latents-{digest.hexdigest()[:12]}.npy"
    if not cache.is_file() or cache.stat().st_mtime < folder.cache.stat().st_mtime:
        write_rows(cache, len(folder.pixels), _encoded(folder, codec, batch))
    return torch.from_numpy(mapped_rows(cache))


def _encoded(folder: MediaFolder, codec: Codec, batch: int) -> Iterator[np.ndarray]:
    """Latents of one sample after the other; `batch` pictures or so are encoded at once."""
    samples = max(1, batch // folder.frames)
    for start in range(0, len(folder.pixels), samples):
        # A mapping of its own, so that what was read does not stay in memory.
        pixels = from_uint8(mapped_rows(folder.cache)[start : start + samples])
        parts = [codec.encode(part).half() for part in pixels.flatten(0, 1).split(batch)]
        yield from torch.cat(parts).unflatten(0, (-1, folder.frames)).numpy()
