"""Decodes data folders into arrays, once, keeps what is costly to make, and draws from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from shared.artifacts.media import read_image
from shared.artifacts.pixels import from_uint8
from shared.compute.execution import execution_device
from shared.errors import InputError
from shared.latents.codec import Codec
from shared.training import ranks
from shared.training.data.captions import PICTURE_SUFFIXES, find_sources
from shared.training.data.captions import read_captions as read_captions
from shared.training.data.frames import open_frames
from shared.training.data.groups import Group
from shared.training.data.groups import find_folders as find_folders
from shared.training.data.inspection import Seen
from shared.training.data.rows import mapped_rows, write_rows

CLIP_FRAMES = 16  # that a clip is read at where any number will do


@dataclass(frozen=True)
class MediaFolder:
    """pixels: uint8 "n t h w 3" (t = 1 for pictures), mapped from the file `cache`; captions: n strings. cameras: of
    views, azimuth and elevation in degrees, "n t 2"; None of anything else. starts: whether their first frames
    are always to be given.
    """

    path: Path
    cache: Path
    pixels: np.ndarray
    captions: list[str]
    cameras: Float[Tensor, "n t 2"] | None = None
    starts: bool = False

    @property
    def frames(self) -> int:
        return self.pixels.shape[1]


@dataclass(frozen=True)
class DataSize:
    """pictures: of a data folder, the frames of its clips among them. captions: different ones, of its clips."""

    pictures: int = 0
    clips: int = 0
    captions: int = 0


def data_size(data: Path, *, frames: int = CLIP_FRAMES) -> DataSize:
    """How much the captions below `data` name; no file is looked at but by its ending. frames: of a clip."""
    pictures = clips = 0
    captions = set()
    for source in find_sources(data):
        for entry in source.entries:
            if Path(entry["file"]).suffix.lower() in PICTURE_SUFFIXES:
                pictures += 1
            else:
                clips += 1
                pictures += frames
                captions.add(entry["caption"])
    return DataSize(pictures, clips, len(captions))


def load_media(
    folder: Path | Group,
    *,
    size: int = 64,
    frames: int | None = None,
    repeat: bool = True,
    cache_dir: Path | None = None,
) -> MediaFolder:
    """Decodes a group once into a file among its caches, and maps that file from then on.

    folder: a group of `find_folders`, or a folder that holds one.
    Pictures are cropped to the middle square and resized to `size`; clips are resampled to `frames`, evenly in time.
    None takes what is cached already, or CLIP_FRAMES. Views are all there: InputError where they are not as many in
    every clip. repeat: whether a clip with fewer frames may show some of them again; InputError where not. cache_dir:
    as in `read_data`, for a folder that is no group yet.
    """
    group = folder if isinstance(folder, Group) else _only_group(folder, cache_dir)
    with ranks.first():
        _clear(group)
        cache, length = _cache(group, size, frames)
        if not cache.is_file():
            for entry, seen in zip(group.entries, group.seen, strict=True):
                if seen.frames < length and not repeat:
                    raise InputError(
                        f"clip {group.folder / entry['file']}", expected=f"{length} frames", got=seen.frames,
                        hint="Use --fineness 1, or finer clips",
                    )  # fmt: skip
            pairs = zip(group.entries, group.seen, strict=True)
            decoded = (_decode(group.folder / entry["file"], seen, size, length) for entry, seen in pairs)
            write_rows(cache, len(group.entries), decoded)
    captions = [entry["caption"] for entry in group.entries]
    cameras = torch.tensor([entry["cameras"] for entry in group.entries]) if group.kind == "view" else None
    return MediaFolder(group.folder, cache, mapped_rows(cache), captions, cameras, group.kind == "start")


def load_all(data: Path, *, size: int, caption: str | None = None) -> list[MediaFolder]:
    """Everything below `data` whose pictures may be learned one by one: all but clips that start from a given picture,
    where a thing may be cut off or far away. caption: of what has none.

    Raises InputError where there is nothing, and else as `find_folders` and `load_media` do.
    """
    groups = [group for group in find_folders(data, caption=caption) if group.kind != "start"]
    if not groups:
        raise InputError(f"data folder {data}", expected="pictures, views or clips", got="clips to be given a start")
    return [load_media(group, size=size) for group in groups]


def _only_group(folder: Path, cache_dir: Path | None) -> Group:
    groups = [group for group in find_folders(folder, cache_dir) if group.folder == folder]
    if len(groups) != 1:
        got = " and ".join(f"{group.kind}s" for group in groups) or "folders of such"
        raise InputError(f"{folder}", expected="a folder of pictures or of clips", got=got)
    return groups[0]


def _cache(group: Group, size: int, frames: int | None) -> tuple[Path, int]:
    """The file of a group's pixels, and how many frames a sample of it has."""
    stem = f"{group.kind}s-{group.fingerprint}-{size}"
    if group.kind == "picture":
        return group.cache / f"{stem}x1.npy", 1
    if group.kind == "view":
        lengths = sorted({seen.frames for seen in group.seen})
        if len(lengths) > 1:
            raise InputError(f"views in {group.folder}", expected="as many in every clip", got=lengths)
        return group.cache / f"{stem}x{lengths[0]}.npy", lengths[0]
    if frames is None:
        cached = [file.stem.removeprefix(f"{stem}x") for file in group.cache.glob(f"{stem}x*.npy")]
        frames = min((int(length) for length in cached if length.isdecimal()), default=CLIP_FRAMES)
    return group.cache / f"{stem}x{frames}.npy", frames


def _clear(group: Group) -> None:
    """Removes what is cached of files as they were before."""
    for file in group.cache.glob(f"{group.kind}s-*.npy"):
        if not file.name.startswith(f"{group.kind}s-{group.fingerprint}-"):
            with suppress(OSError):  # another training was faster, or it is not ours to remove
                file.unlink()


def _decode(path: Path, seen: Seen, size: int, frames: int) -> np.ndarray:
    if frames == 1 and seen.kind == "picture":
        return _fit(read_image(path), size)[None]
    wanted = np.linspace(0, seen.frames - 1, frames).round().astype(int).tolist()
    kept = {}
    with open_frames(path) as read:
        for index, frame in enumerate(read.frames):
            if index in wanted:
                kept[index] = _fit(frame(), size)
    if kept.keys() != set(wanted):
        raise InputError(f"clip {path}", expected=f"{seen.frames} frames, as before", got="fewer", hint="Try again")
    return np.stack([kept[index] for index in wanted])


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
    """The folder's latents (float16), encoded once, cached under the codec's fingerprint, and mapped."""
    digest = hashlib.sha256(json.dumps(codec.vae.config["scaling_factor"]).encode())
    for tensor in codec.vae.state_dict().values():
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    cache = folder.cache.with_name(f"{folder.cache.stem}-latents-{digest.hexdigest()[:12]}.npy")
    with ranks.first():
        if not cache.is_file():
            write_rows(cache, len(folder.pixels), _encoded(folder, codec, batch))
    return torch.from_numpy(mapped_rows(cache))


def _encoded(folder: MediaFolder, codec: Codec, batch: int) -> Iterator[np.ndarray]:
    """Latents of one sample after the other; `batch` pictures or so are encoded at once."""
    samples = max(1, batch // folder.frames)
    device = execution_device(codec.vae)
    for start in range(0, len(folder.pixels), samples):
        # A mapping of its own, so that what was read does not stay in memory.
        pixels = from_uint8(mapped_rows(folder.cache)[start : start + samples])
        # Channels last is half as fast again on a CPU, and equal up to rounding.
        frames = pixels.flatten(0, 1).to(device, memory_format=torch.channels_last)
        parts = [codec.encode(part).half().cpu() for part in frames.split(batch)]
        yield from torch.cat(parts).unflatten(0, (-1, folder.frames)).numpy()
