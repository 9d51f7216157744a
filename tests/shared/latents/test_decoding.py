"""Decoding within memory: which ways are tried, that all give the same pictures, and what running out leads to."""

import pytest
import torch

from shared.compute.policy import MemoryPolicy
from shared.errors import KinoformError
from shared.latents.codec import Codec
from shared.latents.decoding import Attempt, attempts, clip_attempts, decode, decode_by_parts, is_out_of_memory
from tests.near import near
from tests.tiny import tiny_temporal_vae, tiny_vae

LEVEL = 2 / 255  # one of 255 levels, in pixels of [-1, 1]


def latents(*shape, seed=0):
    coarse = torch.randn((*shape[:2], 4, 4), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic")


class Limited(Codec):
    """A codec whose decoder has no room for more latents at once than `room`, in positions."""

    def __init__(self, room, error):
        super().__init__(tiny_vae())
        self.calls = []
        forward = self.vae.decoder.forward

        def limited(x):
            positions = x.shape[0] * x.shape[2] * x.shape[3]
            self.calls.append(tuple(x.shape))
            if positions > room:
                raise error
            return forward(x)

        self.vae.decoder.forward = limited


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
]


@pytest.mark.parametrize(
    ("policy", "count", "side", "expected"),
    [
        ({}, 40, 16, [(16, None), (1, None)]),  # what there was before there were policies
        ({}, 40, 128, [(4, None), (1, None), (1, 64), (1, 32), (1, 24)]),
        ({}, 1, 30, [(1, None), (1, 24)]),
        ({"decode": "whole"}, 40, 16, [(40, None), (16, None), (1, None)]),
        ({"decode": "sliced", "decode_frames": 3}, 40, 16, [(3, None), (1, None)]),
        ({"decode_frames": 50}, 40, 16, [(40, None), (1, None)]),
        ({"decode": "tiled"}, 40, 70, [(1, 64), (1, 32), (1, 24)]),
        ({"decode": "tiled"}, 40, 16, [(1, None)]),
    ],
)
def test_every_way_takes_less_memory_than_the_one_before(policy, count, side, expected):
    found = attempts(MemoryPolicy(**policy), count, side, side, 4)
    assert found == [Attempt(*way) for way in expected]


def test_all_ways_give_the_same_pictures():
    codec, z = Codec(tiny_vae()), latents(3, 4, 40, 30)
    with torch.no_grad():
        plain = codec.decode(z)
    assert torch.equal(decode(codec, z, MemoryPolicy()), plain)
    for policy in ({"decode": "whole"}, {"decode": "sliced", "decode_frames": 1}):
        near(decode(codec, z, MemoryPolicy(**policy)), plain)
    tiled = decode(codec, z, MemoryPolicy(decode="tiled"))
    assert 0 < (tiled - plain).abs().max() < LEVEL
    frames = decode(codec, z[:, :, None].expand(3, 4, 2, 40, 30), MemoryPolicy())
    near(frames[:, :, 1], plain)


@pytest.mark.parametrize(
    ("policy", "frames", "side", "expected"),
    [
        ({}, 16, 64, [None, 32, 24]),
        ({}, 16, 256, [64, 32, 24]),  # too much to be tried whole
        ({"decode": "whole"}, 16, 256, [None, 64, 32, 24]),
        ({"decode": "tiled"}, 16, 40, [32, 24]),
        ({"decode": "tiled"}, 16, 16, [None]),
    ],
)
def test_clips_that_are_decoded_as_one_are_tried_whole_where_they_fit(policy, frames, side, expected):
    found = clip_attempts(MemoryPolicy(**policy), frames, side, side, 4)
    assert found == [Attempt(1, tile, "clip") for tile in expected]


@torch.no_grad()
def test_clips_of_a_decoder_that_looks_across_frames():
    codec = Codec(tiny_temporal_vae())
    z = latents(2, 4, 40, 30)[:, :, None] * torch.linspace(0.5, 1, 3)[:, None, None]
    whole, tiled = (decode(codec, z, MemoryPolicy(decode=mode)) for mode in ("auto", "tiled"))
    near(whole, codec.decode(z))
    assert (whole - tiled).abs().max() < LEVEL
    parts = list(decode_by_parts(codec, z, MemoryPolicy()))
    assert [len(part.pixels) for part in parts] == [3, 3]
    assert str(parts[0].attempt) == "one clip at a time"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("room", "last"), [(2 * 40 * 30, "one picture at a time"), (800, "by tiles of 24 latents")])
def test_running_out_of_memory_leads_to_a_smaller_decode(error, room, last):
    codec, z = Limited(room, error), latents(5, 4, 40, 30)
    parts = list(decode_by_parts(codec, z, MemoryPolicy(decode="whole")))
    assert codec.calls[0] == (5, 4, 40, 30)
    assert str(parts[-1].attempt).endswith(last)
    wanted = decode(Codec(tiny_vae()), z, MemoryPolicy())
    assert (torch.cat([part.pixels for part in parts]) - wanted).abs().max() < LEVEL


def test_pictures_that_are_done_stay_done():
    codec, z = Limited(10**9, MemoryError()), latents(6, 4, 20, 20)
    parts = decode_by_parts(codec, z, MemoryPolicy(decode_frames=2))
    next(parts)
    forward, codec.vae.decoder.forward = codec.vae.decoder.forward, lambda x: (_ for _ in ()).throw(MemoryError())
    codec.vae.decoder.forward = lambda x: forward(x) if len(x) == 1 else (_ for _ in ()).throw(MemoryError())
    assert [len(part.pixels) for part in parts] == [1, 1, 1, 1]


def test_no_way_that_fits_says_what_to_do():
    with pytest.raises(KinoformError) as caught:
        decode(Limited(100, MemoryError()), latents(1, 4, 40, 30), MemoryPolicy())
    assert str(caught.value) == (
        "decoding pictures of 120x160: out of memory, even one picture at a time, by tiles of 24 latents. "
        "Make smaller pictures, or free some memory"
    )
    assert caught.value.exit_code == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert all(is_out_of_memory(error) for error in ERRORS)
    with pytest.raises(RuntimeError, match="shapes"):
        decode(Limited(1, RuntimeError("shapes do not fit")), latents(1, 4, 40, 30), MemoryPolicy())
