"""Animated pictures to files and back: GIF, and without loss animated WebP and PNG (.apng).

Pillow, which codes the single pictures, leaves out frames that equal the one before them; the containers are written
here, so that every frame stays a frame. A later frame holds no more than the rectangle that has changed.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import GifImagePlugin, Image, PngImagePlugin

from shared.artifacts.files import write_bytes
from shared.artifacts.formats.clip import Clip, Frames, comment_of
from shared.artifacts.formats.image_file import TAG, exif_of, png_text, text_of_picture
from shared.errors import InputError

ANIMATED_SUFFIXES = (".gif", ".webp", ".apng")
# Browsers show a frame that is to last 10 milliseconds or less for 100.
MAX_FPS = {".gif": 50, ".webp": 90, ".apng": 90}  # a GIF counts hundredths of a second, WebP thousandths
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_animation(path: str | os.PathLike[str], frames: np.ndarray, rate: Fraction, tags: Mapping[str, str]) -> None:
    """Write frames `t h w 3` in the format of the path's ending, one of ANIMATED_SUFFIXES, with TAG of `tags`.

    InputError for a rate above MAX_FPS.
    """
    suffix = Path(path).suffix.lower()
    if rate > MAX_FPS[suffix]:
        raise InputError(f"fps for {suffix}", expected=f"at most {MAX_FPS[suffix]}", got=float(rate))
    encode = {".gif": _gif, ".webp": webp_bytes, ".apng": _apng}[suffix]
    write_bytes(path, encode(frames, rate, comment_of(tags)))


def read_animation(source: Path) -> Clip:
    """Every frame of an animated picture, read by imageio; transparency lies on white. Raises InputError, and what
    Pillow raises.
    """
    frames, seconds = Frames(source), 0.0
    tags = animation_tags(source)  # Pillow knows the file for one of these formats
    opened = iio.imopen(source, "r", plugin="pillow")
    with opened:
        for index, frame in enumerate(opened.iter(mode="RGBA")):
            frames.add(_opaque(frame))
            seconds += opened.metadata(index=index).get("duration", 0) / 1000
    return Clip(frames.stacked(), len(frames.frames) / seconds if seconds else 10.0, tags)


def animation_tags(source: Path) -> dict[str, str]:
    """The texts that an animated picture carries. Raises as `read_animation` does."""
    with Image.open(source, formats=["GIF", "WEBP", "PNG"]) as picture:
        return _tags(picture)


def _opaque(frame: np.ndarray) -> np.ndarray:
    layer = Image.fromarray(frame)
    return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def _tags(picture: Image.Image) -> dict[str, str]:
    if picture.format == "GIF":
        comment = picture.info.get("comment", b"").decode("utf-8", "replace")
        return {"comment": comment} if comment else {}
    return text_of_picture(picture)


def _gif(frames: np.ndarray, rate: Fraction, text: str) -> bytes:
    """One palette for the whole clip, so that flat colours do not flicker, and every frame kept, equal ones as well."""
    comment = text.encode()
    height, width = frames.shape[1:3]
    pixels = frames.reshape(-1, 1, 3)
    palette = Image.fromarray(pixels[:: max(1, len(pixels) // 2**20)]).quantize(256)
    colours = (palette.getpalette() or []) + [0] * 768
    blocks = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), bytes(colours[:768])]
    blocks.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # for ever
    if comment:
        parts = [comment[i : i + 255] for i in range(0, len(comment), 255)]
        blocks += [b"!\xfe", *(bytes([len(part)]) + part for part in parts), b"\0"]
    for frame, hundredths in zip(frames, _durations(len(frames), rate, 100), strict=True):
        picture = Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        blocks += GifImagePlugin.getdata(picture, duration=10 * hundredths)
    return b"".join([*blocks, b";"])


def webp_bytes(frames: np.ndarray, rate: Fraction, text: str) -> bytes:
    """The container of Google's "WebP Container Specification": VP8X, ANIM, a chunk ANMF for each frame, EXIF."""
    height, width = frames.shape[1:3]
    exif = exif_of(text) if text else b""
    flags = 0x02 | (0x08 if exif else 0)  # animation; EXIF
    chunks = [_chunk(b"VP8X", struct.pack("<I", flags) + _three(width - 1) + _three(height - 1))]
    chunks.append(_chunk(b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0)))  # white below, for ever
    durations = _durations(len(frames), rate, 1000)
    for (x, y, part), thousandths in zip(_changes(frames), durations, strict=True):
        data = io.BytesIO()
        Image.fromarray(part).save(data, "WEBP", lossless=True)
        place = _three(x // 2) + _three(y // 2) + _three(part.shape[1] - 1) + _three(part.shape[0] - 1)
        # 2: laid over what is there, not blended with it. After the file's own header of 12 bytes comes its picture.
        chunks.append(_chunk(b"ANMF", place + _three(thousandths) + b"\x02" + data.getvalue()[12:]))
    if exif:
        chunks.append(_chunk(b"EXIF", exif))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _apng(frames: np.ndarray, rate: Fraction, text: str) -> bytes:
    """PNG, third edition, section 11.3.6: acTL, then a chunk fcTL for each frame before its pixels (fdAT)."""
    info = png_text({TAG: text} if text else {})
    delay = _delay(rate)
    body, sequence = [], 0
    for index, (x, y, part) in enumerate(_changes(frames)):
        data = io.BytesIO()
        Image.fromarray(part).save(data, "PNG", pnginfo=info if index == 0 else PngImagePlugin.PngInfo())
        chunks = list(_png_chunks(data.getvalue()))
        if index == 0:
            body += [_png_chunk(kind, content) for kind, content in chunks if kind not in (b"IDAT", b"IEND")]
            body.insert(1, _png_chunk(b"acTL", struct.pack(">II", len(frames), 0)))  # for ever
        size = part.shape[1], part.shape[0]
        body.append(_png_chunk(b"fcTL", struct.pack(">5I2HBB", sequence, *size, x, y, *delay, 0, 0)))
        sequence += 1
        for kind, content in chunks:
            if kind == b"IDAT" and index:
                body.append(_png_chunk(b"fdAT", struct.pack(">I", sequence) + content))
                sequence += 1
            elif kind == b"IDAT":
                body.append(_png_chunk(b"IDAT", content))
    return b"".join([PNG_SIGNATURE, *body, _png_chunk(b"IEND", b"")])


def _changes(frames: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each frame, the rectangle `h w 3` that differs from the frame before, and its x and y, which are even."""
    yield 0, 0, frames[0]
    for before, frame in itertools.pairwise(frames):
        differs = (before != frame).any(-1)
        rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
        if len(rows) == 0:
            yield 0, 0, np.ascontiguousarray(frame[:1, :1])
            continue
        y, x = int(rows[0]) & ~1, int(columns[0]) & ~1
        yield x, y, np.ascontiguousarray(frame[y : rows[-1] + 1, x : columns[-1] + 1])


def _durations(count: int, rate: Fraction, unit: int) -> list[int]:
    """How long each frame lasts, in parts of a second: rounded so that the sum is right at every frame."""
    ends = [round(Fraction(unit * i) / rate) for i in range(count + 1)]
    return [end - start for start, end in itertools.pairwise(ends)]


def _delay(rate: Fraction) -> tuple[int, int]:
    """1 / rate as a fraction of two 16-bit numbers, exact where it can be."""
    delay = 1 / rate
    return (
        delay if max(delay.numerator, delay.denominator) < 2**16 else delay.limit_denominator(2**15)
    ).as_integer_ratio()


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(PNG_SIGNATURE)
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, data[place + 8 : place + 8 + length]
        place += 12 + length
