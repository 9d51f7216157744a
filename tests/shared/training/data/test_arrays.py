"""Data folders: what is read is what is there, and wrong ones are named."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from shared.artifacts.media import write_clip, write_image
from shared.artifacts.pixels import from_uint8
from shared.errors import InputError
from shared.latents.codec import Codec
from shared.training.data.arrays import (
    DataSize,
    data_size,
    draw_frames,
    draw_pictures,
    find_folders,
    load_latents,
    load_media,
)
from tests.tiny import tiny_vae
from tests.tolerances import close

RNG = np.random.default_rng(0)


def write_folder(folder, pictures, caption="a picture"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, picture in enumerate(pictures):
        name = f"{index}.png" if picture.ndim == 3 else f"{index}.mp4"
        write_image(folder / name, picture) if picture.ndim == 3 else write_clip(folder / name, picture, 8)
        lines.append(json.dumps({"file": name, "caption": f"{caption} {index}"}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def noise(*shape):
    return RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_pictures_are_read_as_they_are(tmp_path):
    pictures = [noise(64, 64) for _ in range(3)]
    media = load_media(write_folder(tmp_path, pictures))
    assert (media.pixels[:, 0] == np.stack(pictures)).all()
    assert media.captions == ["a picture 0", "a picture 1", "a picture 2"]
    assert media.frames == 1


def test_other_sizes_are_cut_to_the_middle_square_and_resized(tmp_path):
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = (10, 200, 30)  # the middle square
    media = load_media(write_folder(tmp_path, [wide]), size=32)
    assert (np.abs(media.pixels[0, 0].astype(int) - (10, 200, 30)) <= 1).all()
    picture = noise(50, 50)
    media = load_media(write_folder(tmp_path / "b", [picture]), size=20)
    expected = np.asarray(Image.fromarray(picture).resize((20, 20), Image.Resampling.LANCZOS))
    assert (media.pixels[0, 0] == expected).all()


def test_clips_are_resampled_evenly_in_time(tmp_path):
    levels = np.linspace(20, 230, 31).astype(np.uint8)
    clip = np.broadcast_to(levels[:, None, None, None], (31, 64, 64, 3)).copy()
    media = load_media(write_folder(tmp_path, [clip]), frames=16)
    seen = media.pixels[0].mean((1, 2, 3))
    assert np.abs(seen - levels[::2]).max() < 4


def test_the_size_of_data_counts_frames_as_they_will_be_read(tmp_path):
    write_folder(tmp_path / "stills", [noise(8, 8)] * 3)
    write_folder(tmp_path / "clips", [noise(6, 64, 64)] * 2)
    assert data_size(tmp_path, frames=5) == DataSize(pictures=3 + 2 * 5, clips=2, captions=2)
    assert data_size(tmp_path) == DataSize(pictures=3 + 2 * 16, clips=2, captions=2)


def test_the_cache_is_used_until_files_change_and_old_ones_go(tmp_path):
    first, second = noise(64, 64), noise(64, 64)
    write_folder(tmp_path, [first, noise(64, 64)])
    cache = load_media(tmp_path).cache
    made = cache.stat().st_mtime_ns
    lines = (tmp_path / "captions.jsonl").read_text()
    (tmp_path / "captions.jsonl").write_text(lines.replace("a picture 0", "another"))
    again = load_media(tmp_path)
    assert (again.cache, cache.stat().st_mtime_ns, again.captions[0]) == (cache, made, "another")
    write_image(tmp_path / "0.png", second)
    assert (load_media(tmp_path).pixels[0, 0] == second).all()
    (tmp_path / "captions.jsonl").write_text("".join(reversed(lines.splitlines(keepends=True))))
    assert (load_media(tmp_path).pixels[1, 0] == second).all()
    assert len(list((tmp_path / ".kinoform").glob("*.npy"))) == 1


def test_a_file_that_goes_bad_takes_its_caption_along(tmp_path):
    pictures = [noise(16, 16) for _ in range(20)]
    load_media(write_folder(tmp_path, pictures), size=16)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:300])
    media = load_media(tmp_path, size=16)
    assert (media.pixels[:, 0] == np.stack(pictures[:3] + pictures[4:])).all()
    assert media.captions == [f"a picture {i}" for i in range(20) if i != 3]


def test_caches_go_where_they_can_be_written(tmp_path, monkeypatch):
    pictures = [noise(16, 16)]
    data = write_folder(tmp_path / "data", pictures)
    media = load_media(data, size=16, cache_dir=tmp_path / "given")
    assert media.cache.is_relative_to(tmp_path / "given")
    assert not (data / ".kinoform").exists()
    (data / ".kinoform").touch()  # no folder can be made there, by whomever
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    media = load_media(data, size=16)
    assert media.cache.is_relative_to(tmp_path / "home" / "kinoform")
    assert (media.pixels[0, 0] == pictures[0]).all()


def test_folders_are_found(tmp_path):
    for name in ("b", "a"):
        write_folder(tmp_path / name, [noise(8, 8)])
    assert [group.folder for group in find_folders(tmp_path)] == [tmp_path / "a", tmp_path / "b"]
    assert [group.folder for group in find_folders(tmp_path / "a")] == [tmp_path / "a"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"captions\.jsonl"):
        find_folders(tmp_path / "none")


def test_a_mix_is_two_groups_and_every_size_has_its_cache(tmp_path):
    picture = noise(64, 64)
    write_folder(tmp_path, [picture, noise(4, 64, 64)])
    groups = find_folders(tmp_path)
    assert [(group.kind, [entry["file"] for entry in group.entries]) for group in groups] == [
        ("picture", ["0.png"]), ("clip", ["1.mp4"])
    ]  # fmt: skip
    for size in (64, 32):
        stills, clips = (load_media(group, size=size, frames=4) for group in groups)
        assert (stills.pixels.shape, clips.pixels.shape) == ((1, 1, size, size, 3), (1, 4, size, size, 3))
    assert (load_media(groups[0], size=64).pixels[0, 0] == picture).all()
    with pytest.raises(InputError, match="pictures and clips"):
        load_media(tmp_path)


def test_draws_have_the_wanted_share_of_clips_and_cover_all(data):
    folders = [load_media(f, size=32) for f in find_folders(data)]
    assert [f.frames for f in folders] == [16, 1]
    drawn = draw_frames(folders, 4000, 0.25, torch.Generator().manual_seed(0))
    counts = Counter(folder for folder, _, _ in drawn)
    assert counts[0] / 4000 == pytest.approx(0.25, abs=0.03)
    assert {s for f, s, _ in drawn if f == 1} == set(range(12))
    assert {(s, t) for f, s, t in drawn if f == 0} == {(s, t) for s in range(3) for t in range(16)}
    assert {f for f, _, _ in draw_frames(folders[1:], 50, 0.25, torch.Generator().manual_seed(0))} == {0}
    assert drawn == draw_frames(folders, 4000, 0.25, torch.Generator().manual_seed(0))


def test_drawn_pictures_are_the_ones_drawn(data):
    folders = [load_media(f, size=32) for f in find_folders(data)]
    pixels, captions = draw_pictures(folders, 9, 0.5, torch.Generator().manual_seed(3))
    drawn = draw_frames(folders, 9, 0.5, torch.Generator().manual_seed(3))
    for picture, caption, (f, s, t) in zip(pixels, captions, drawn, strict=True):
        assert torch.equal(picture, from_uint8(folders[f].pixels[s, t].copy()))
        assert caption == folders[f].captions[s]


def test_latents_are_the_codecs_and_cached_for_it(data, tmp_path):
    codec = Codec(tiny_vae())
    media = load_media(shutil.copytree(data / "clips", tmp_path / "clips"), size=32)
    for old in media.cache.parent.glob("*-latents-*.npy"):  # of other tests on the same data
        old.unlink()
    latents = load_latents(media, codec, batch=7)
    assert latents.dtype == torch.float16
    expected = codec.encode(from_uint8(media.pixels[2, 5][None].copy())).detach()[0]
    torch.testing.assert_close(latents[2, 5].float(), expected, **close(torch.float16))
    assert len(set(media.cache.parent.glob("*-latents-*.npy"))) == 1
    assert torch.equal(load_latents(media, codec), latents)
    load_latents(media, Codec(tiny_vae(seed=1)))
    assert len(set(media.cache.parent.glob("*-latents-*.npy"))) == 2
