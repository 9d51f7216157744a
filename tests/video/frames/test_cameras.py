"""Views: frames that are told their camera, and training on them."""

import json
import math

import numpy as np
import pytest
import torch

from shared.artifacts.media import write_clip
from shared.errors import InputError, ModelError
from shared.models.image_model import load_image_model
from shared.training.data.arrays import load_media
from tests.near import near
from tests.tiny import tiny_unet
from tests.video.tiny import build_video_folder, small_recipe, write_clips
from tests.video.unets import UNETS, added, inputs
from video.folder import load_temporal
from video.frames.cameras import camera_features
from video.network import TemporalLayers, VideoUNet
from video.training.batches import read_folders
from video.training.stage import first_layers, train

CAMERA = torch.tensor([[[0.0, 10.0], [120.0, 10.0], [-120.0, 10.0]]] * 2)


def write_views(folder, count=3, views=8):
    """Clips of one brightness a view: 10 times its number."""
    folder.mkdir(parents=True)
    lines = []
    for thing in range(count):
        pixels = np.full((views, 64, 64, 3), 20, np.uint8) + 10 * np.arange(views, dtype=np.uint8)[:, None, None, None]
        write_clip(folder / f"{thing}.mp4", pixels, 8)
        cameras = [[360 * view / views, 5 * thing] for view in range(views)]
        lines.append(json.dumps({"file": f"{thing}.mp4", "caption": "a red cube", "cameras": cameras}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_features_are_of_the_direction_and_say_that_there_is_one():
    features = camera_features(torch.tensor([[[90.0, 45.0], [450.0, 45.0]]]))
    assert features[0, 0].tolist() == pytest.approx([1, 0, 0, -1, 0.5, 1], abs=1e-6)
    near(features[0, 1], features[0, 0])


@torch.no_grad()
@pytest.mark.parametrize("shape", UNETS.values(), ids=UNETS)
def test_new_layers_that_know_of_cameras_change_nothing_and_trained_ones_do(shape):
    unet = tiny_unet(**shape).requires_grad_(False)
    x, t, tokens = inputs()
    more = added(unet.config)
    network = VideoUNet(unet, TemporalLayers.for_unet(unet, embed_dim=32, cameras=True)).eval()
    for name, parameter in network.temporal.named_parameters():
        if name.endswith("gate"):
            parameter.fill_(0.5)
    still = torch.zeros(3)
    plain = network(x, t, tokens, still, added_cond_kwargs=more)
    assert torch.equal(network(x, t, tokens, camera=CAMERA, added_cond_kwargs=more), plain)  # and no moments
    network.temporal.embedding.camera.weight.normal_()
    near(network(x, t, tokens, still, added_cond_kwargs=more), plain)
    seen = network(x, t, tokens, camera=CAMERA, added_cond_kwargs=more)
    assert not torch.allclose(seen, plain, atol=1e-3)
    near(network(x, t, tokens, camera=CAMERA + torch.tensor([360.0, 0.0]), added_cond_kwargs=more), seen)


def test_layers_that_know_of_no_cameras_say_so():
    unet = tiny_unet()
    x, t, tokens = inputs()
    with pytest.raises(ModelError, match=r"cameras: expected a model trained to know them.*--views-share"):
        VideoUNet(unet, TemporalLayers.for_unet(unet, embed_dim=32))(x, t, tokens, camera=CAMERA)


def test_a_training_on_clips_and_views_leaves_layers_that_know_cameras(tmp_path):
    source, out = build_video_folder(tmp_path / "source"), tmp_path / "out"
    write_clips(tmp_path / "data" / "clips")
    write_views(tmp_path / "data" / "views")
    wanted = small_recipe(frames=8, steps=6, model=str(source), start="continue", views_share=0.6)
    list(train(wanted, tmp_path / "data", out))
    layers = load_temporal(out)
    assert layers.config["cameras"] is True
    assert float(layers.embedding.camera.weight.abs().max()) > 0
    folders = read_folders(tmp_path / "data", load_image_model(source).codec, size=64, frames=8)
    assert [media.cameras for media, _ in folders] == [None]  # views are read where they are asked for
    kept = first_layers(small_recipe(frames=8, start="continue"), load_image_model(source), out)
    assert torch.equal(kept.embedding.camera.weight, layers.embedding.camera.weight)


def test_views_that_do_not_go_together_are_refused(tmp_path):
    write_views(tmp_path / "a", 1, 8)
    media = load_media(tmp_path / "a")
    assert media.cameras.shape == (1, 8, 2)
    index = tmp_path / "a" / "captions.jsonl"
    line = json.loads(index.read_text())
    index.write_text(json.dumps({**line, "cameras": line["cameras"][:5]}) + "\n")
    with pytest.raises(InputError, match=r"cameras of .*0\.mp4: expected one for each of 8 frames, got 5"):
        load_media(tmp_path / "a")
    write_views(tmp_path / "b", 1, 6)
    (tmp_path / "b" / "0.mp4").rename(tmp_path / "a" / "1.mp4")
    other = json.loads((tmp_path / "b" / "captions.jsonl").read_text())
    index.write_text("\n".join(map(json.dumps, (line, {**other, "file": "1.mp4"}))) + "\n")
    with pytest.raises(InputError, match=r"views in .*: expected as many in every clip, got \[6, 8\]"):
        load_media(tmp_path / "a")


def test_every_angle_is_finite():
    assert math.isfinite(float(camera_features(torch.tensor([[[1e6, 90.0]]])).sum()))


def test_without_views_in_the_data_layers_learn_of_no_cameras(tmp_path):
    """Such layers would be taken for a teacher of views."""
    out = tmp_path / "out"
    source, data = build_video_folder(tmp_path / "source"), write_clips(tmp_path / "data")
    list(train(small_recipe(steps=1, model=str(source), start="continue", views_share=0.5), data, out))
    assert load_temporal(out).embedding.camera is None
