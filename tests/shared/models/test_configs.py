"""Configurations of networks, changed."""

import json

from shared.models.configs import changed
from tests.tiny import tiny_unet
from tests.video.tiny import build_video_folder
from video.folder import load_temporal
from video.network import TemporalLayers


def test_a_key_that_the_file_did_not_have_can_be_changed(tmp_path):
    """diffusers gives such keys their defaults again, whatever one asks for."""
    folder = build_video_folder(tmp_path / "model")
    file = folder / "temporal" / "config.json"
    config = json.loads(file.read_text())
    del config["space_time"], config["known_channels"]
    file.write_text(json.dumps(config))
    old = load_temporal(folder)
    places = [True] * len(old.blocks)
    wider = TemporalLayers.from_config(changed(old.config, space_time=places, known_channels=4))
    assert all(block.space_time is not None for block in wider.blocks)
    assert wider.known is not None
    assert wider.config["channels"] == old.config["channels"]


def test_what_diffusers_keeps_for_itself_is_left_out():
    config = {**tiny_unet().config, "_name_or_path": "somewhere"}
    assert not [key for key in changed(config) if key.startswith("_")]
    assert changed(config, sample_size=8)["sample_size"] == 8
