"""What a training of temporal layers sees in a step: clips, parts of them, views; each with what belongs to it."""

import json

import numpy as np
import pytest
import torch

from shared.artifacts.media import write_image
from shared.errors import InputError
from shared.latents.codec import Codec
from shared.models.prompts.text import TextConditioner
from shared.rng import generator
from shared.training.data.arrays import MediaFolder, load_media
from shared.view_words import view_word
from tests.tiny import tiny_text, tiny_vae
from tests.video.tiny import small_recipe, write_clips
from video.frames.windows import even_moments
from video.training.batches import (
    VIEWS,
    Batch,
    ClipBatches,
    MixedBatches,
    ViewBatches,
    clips_of,
    drawn_frames,
    read_folders,
)


def test_batches_pair_every_clip_with_its_caption_and_drop_some():
    class Numbers(TextConditioner):
        def __init__(self):
            pass

        def encode(self, prompts):
            return torch.tensor([[[float(prompt or -1)]] for prompt in prompts])

    latents = torch.arange(5.0).view(5, 1, 1, 1, 1).expand(5, 4, 2, 1, 1).half()
    recipe = small_recipe(batch_size=64, caption_dropout=0.25)
    clips, tokens, moments, *_ = ClipBatches([latents], ["0", "1", "2", "3", "4"], Numbers(), recipe)(3)
    assert clips.shape == (64, 2, 4, 1, 1)
    assert clips.dtype == tokens.dtype == torch.float32
    assert torch.equal(moments, even_moments(4))
    dropped = tokens[:, 0, 0] == -1
    assert torch.equal(tokens[~dropped, 0, 0], clips[~dropped, 0, 0, 0, 0])
    assert 4 <= int(dropped.sum()) <= 28


def test_steps_see_whole_clips_and_finer_parts_of_them_in_the_wanted_shares():
    recipe = small_recipe(frames=4, fineness=3, part_share=0.4)
    assert recipe.clip_frames == 10
    drawn = [drawn_frames(recipe, generator(0, step)) for step in range(400)]
    spacings = [int(frames[1] - frames[0]) for frames in drawn]
    assert all(torch.equal(frames.diff(), torch.full((3,), gap)) for frames, gap in zip(drawn, spacings, strict=True))
    shares = [spacings.count(gap) / 400 for gap in (1, 2, 3)]
    assert shares == pytest.approx([0.2, 0.2, 0.6], abs=0.06)
    for gap, last in ((1, 6), (2, 3), (3, 0)):  # every start that leaves room for the others
        starts = {int(frames[0]) for frames, spacing in zip(drawn, spacings, strict=True) if spacing == gap}
        assert starts == set(range(last + 1))


def test_a_batch_of_parts_knows_which_moments_they_are():
    recipe = small_recipe(batch_size=3, frames=4, fineness=3, part_share=1.0)
    latents = torch.arange(10.0).view(1, 10, 1, 1, 1).expand(5, 10, 2, 1, 1)
    text = TextConditioner(*tiny_text())
    batch = ClipBatches([latents], ["red"] * 5, text, recipe)(7)
    assert torch.equal(batch.latents[0, 0, :, 0, 0].double() / 9, batch.moments)


def test_stages_in_turn_read_the_same_clips_at_other_numbers_of_frames(tmp_path):
    data, codec = write_clips(tmp_path, frames=10), Codec(tiny_vae())
    assert load_media(data).frames == 16  # as the stages of pictures do
    for frames in (4, 10):
        ((media, latents),) = clips_of(read_folders(data, codec, size=64, frames=frames, repeat=False))
        assert latents.shape[:2] == (len(media.captions), frames)


def test_clips_of_several_folders_are_all_drawn():
    latents = [torch.full((n, 4, 2, 1, 1), float(i)) for i, n in enumerate((2, 3))]
    recipe = small_recipe(batch_size=64, caption_dropout=0.0)
    batch = ClipBatches(latents, list("aaaaa"), TextConditioner(*tiny_text()), recipe)(0)
    assert set(batch.latents[:, 0, 0, 0, 0].tolist()) == {0.0, 1.0}


def test_of_clips_that_start_from_a_picture_the_first_frame_is_always_given():
    latents = [torch.full((n, 4, 2, 1, 1), float(i)) for i, n in enumerate((2, 3))]
    recipe, text = small_recipe(batch_size=64, known_share=0.2), TextConditioner(*tiny_text())
    batch = ClipBatches(latents, list("aaaaa"), text, recipe, starts=[False, True])(0)
    first_given, start = batch.given[:, 0], batch.latents[:, 0, 0, 0, 0] == 1
    assert first_given[start].all()
    assert 0 < int(first_given[~start].sum()) < 0.5 * int((~start).sum())


def test_clips_that_start_from_a_picture_are_read_where_they_are_wanted(tmp_path):
    write_clips(tmp_path / "clips", frames=4)
    index = write_clips(tmp_path / "starts", frames=4) / "captions.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    index.write_text("".join(json.dumps({**line, "start": "given"}) + "\n" for line in lines))
    codec = Codec(tiny_vae())
    for starts, expected in ((False, [False]), (True, [False, True])):
        folders = read_folders(tmp_path, codec, size=64, frames=4, starts=starts)
        assert [media.starts for media, _ in clips_of(folders)] == expected


def test_a_folder_of_pictures_is_no_training_data_for_video(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "caption": "black"}\n')
    with pytest.raises(InputError, match="expected clips"):
        read_folders(tmp_path, Codec(tiny_vae()), size=64, frames=4)


def test_a_batch_is_of_views_all_around_with_their_cameras(tmp_path):
    text = TextConditioner(*tiny_text())
    latents = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(3, 16, 2, 1, 1)
    azimuth = torch.arange(16.0) * 22.5
    cameras = torch.stack([torch.stack([azimuth, torch.full((16,), float(i))], dim=-1) for i in range(3)])
    media = MediaFolder(tmp_path, tmp_path, np.zeros((3, 16, 1, 1, 3), np.uint8), ["red", "blue", "red"], cameras)
    batches = ViewBatches([(media, latents)], text, small_recipe(frames=8, views_share=0.5, caption_dropout=0.0))
    counts = set()
    for number in range(20):
        batch = batches(number)
        things, _, count = batch.latents.shape[:3]
        counts.add(count)
        assert things * count == 16
        assert batch.moments is batch.given is None
        assert torch.equal(batch.camera[..., 0], batch.latents[:, 0, :, 0, 0] * 22.5)  # each with its own camera
        turn = batch.camera[..., 0].diff(dim=1) % 360
        assert torch.equal(turn, torch.full_like(turn, 360 / count))
        around = [(view_word(*at), at[1]) for views in batch.camera.tolist() for at in views]
        told = [f"{'blue' if thing == 1 else 'red'}, {word}" for word, thing in around]
        assert torch.equal(batch.frame_text.flatten(0, 1), text.encode(told))
    assert counts == set(VIEWS)
    assert batches(3).tokens.shape == (batches(3).latents.shape[0], text.max_length, 32)
    assert ViewBatches([(media, latents)], text, small_recipe(frames=8, known_share=1.0))(0).given[:, 0].all()
    untold = ViewBatches([(media, latents)], text, small_recipe(frames=8, caption_dropout=0.999))(0)
    assert torch.equal(untold.frame_text, untold.tokens[:, None].expand_as(untold.frame_text))


def test_views_come_in_the_wanted_share():
    clip, view = (Batch(torch.full((1, 1, 1, 1, 1), value), torch.zeros(1, 1, 1)) for value in (0.0, 1.0))
    batches = MixedBatches(lambda number: clip, lambda number: view, small_recipe(views_share=0.3))
    drawn = [batches(number) for number in range(1000)]
    assert sum(batch is view for batch in drawn) / 1000 == pytest.approx(0.3, abs=0.04)
    assert all(batch is batches(number) for number, batch in enumerate(drawn))
