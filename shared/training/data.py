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

PIXELS = "pixels.npy"  # the cache of decoded media


@dataclass(frozen=True)
class MediaFolder:
    """pixels: uint8 "n t h w 3" (t = 1 for pictures), perhaps mapped from the cache file; captions: n strings."""

    path: Path
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
    """samples: pictures and clips of a data folder. pictures: those, and the clips' frames."""

    samples: int = 0
    pictures: int = 0


def data_size(data: Path, *, frames: int = 16) -> DataSize:
    """How much there is below `data`; clips that are not cached yet are to be read at `frames`."""
    samples = pictures = 0
    for folder in find_folders(data):
        entries = read_captions(folder)
        if (folder / PIXELS).is_file():
            frames_here = mapped_rows(folder / PIXELS).shape[1]
        else:
            frames_here = 1 if Path(str(entries[0]["file"])).suffix.lower() in IMAGE_SUFFIXES else frames
        samples += len(entries)
        pictures += len(entries) * frames_here
    return DataSize(samples, pictures)


def load_media(folder: Path, *, size: int = 64, frames: int = 16) -> MediaFolder:
    """Decodes a folder once into `pixels.npy` beside the captions and maps that file from then on.

    Pictures are cropped to the middle square and resized to `size`; clips are resampled to `frames`, evenly in time.
    """
    entries = read_captions(folder)
    captions = [str(entry["caption"]) for entry in entries]
    cache = folder / PIXELS
    if not cache.is_file() or cache.stat().st_mtime < (folder / "captions.jsonl").stat().st_mtime:
        decoded = (_decode(folder / str(entry["file"]), size, frames) for entry in entries)
        with _little_garbage():
            kinds = "only pictures or only clips"
            write_rows(cache, len(entries), decoded, expected=kinds, hint="Use two folders.")
    pixels = mapped_rows(cache)
    if len(pixels) != len(captions) or pixels.shape[2:] != (size, size, 3):
        raise InputError(
            str(cache), expected=f"{len(captions)} samples of {size}x{size}", got=pixels.shape, hint="Delete the file."
        )
    return MediaFolder(folder, pixels, captions)


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


def _decode(path: Path, size: int, frames: int) -> np.ndarray:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        pictures = read_image(path)[None]
    else:
        clip = read_clip(path).frames
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
    digest = hashlib.sha256(json.dumps(codec.vae.config["scaling_factor"]).encode())
    for tensor in codec.vae.state_dict().values():
        digest.update(tensor.detach().float().numpy().tobytes())
    cache = folder.path / f"latents-{digest.hexdigest()[:12]}.npy"
    if not cache.is_file() or cache.stat().st_mtime < (folder.path / PIXELS).stat().st_mtime:
        write_rows(cache, len(folder.pixels), _encoded(folder, codec, batch))
    return torch.from_numpy(mapped_rows(cache))


def _encoded(folder: MediaFolder, codec: Codec, batch: int) -> Iterator[np.ndarray]:
    """Latents of one sample after the other; `batch` pictures or so are encoded at once."""
    samples = max(1, batch // folder.frames)
    for start in range(0, len(folder.pixels), samples):
        # A mapping of its own, so that what was read does not stay in memory.
        pixels = from_uint8(mapped_rows(folder.path / PIXELS)[start : start + samples])
        parts = [codec.encode(part).half() for part in pixels.flatten(0, 1).split(batch)]
        yield from torch.cat(parts).unflatten(0, (-1, folder.frames)).numpy()
