"""What a picture shows, as eight-bit sRGB: whatever mode, depth, colour profile or turn its file has. No torch here."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N")


def as_rgb(picture: Image.Image) -> Image.Image:
    """A loaded picture, upright, in sRGB; transparency lies on white; 16 bits of grey are rounded to 8.

    Raises ValueError for floating point and for 32-bit integers above 65,535, whose white nobody knows.
    """
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)  # cameras note which way is up
    if picture.mode in DEEP_MODES or picture.mode == "I":
        picture = _eight_bits(picture)
    if picture.mode == "F":
        raise ValueError("floating-point pixels")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK"):
        return _in_srgb(picture, profile)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    levels = np.asarray(picture).astype(np.int64)
    if levels.size and not 0 <= levels.min() <= levels.max() <= 65535:
        raise ValueError("pixels of 32 bits")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return picture.convert("RGB")
        wanted = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, wanted, outputMode="RGB")
    except (
        OSError,
        ImageCms.PyCMSError,
    ):  # a broken profile, or one of other colours: the pixels are taken as they are
        return picture.convert("RGB")
    assert converted is not None
    return converted
