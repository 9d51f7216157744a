"""Training of temporal layers: frozen weights, what they learn, exact resumption."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError
from shared.models.image_model import load_image_model
from shared.rng import generator
from tests.tiny import build_image_folder, tiny_scheduler, tiny_unet
from tests.video.tiny import build_video_folder, small_recipe, write_clips
from video.folder import add_temporal, load_temporal
from video.frames.known import told
from video.network import TemporalLayers, VideoUNet
from video.training.batches import Batch, StillBatch
from video.training.stage import (
    first_layers,
    groups_of,
    train,
    train_video,
)

SCHEDULE = NoiseSchedule.from_scheduler(tiny_scheduler())
EMOJI = Path(os.environ.get("KINOFORM_DATA", Path(__file__).parents[4] / "shared" / "data")) / "emoji-clips"
SMALL = {  # one level: five temporal blocks
    "block_out_channels": (16,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "attention_head_dim": 2,
}


def small_network(seed: int = 0, **settings: float) -> VideoUNet:
    unet = tiny_unet(seed, **SMALL)
    return VideoUNet(unet, TemporalLayers.for_unet(unet, embed_dim=16, head_dim=8, **settings))


RAMP = torch.linspace(-1.5, 1.5, 4)  # brightness of the four frames of a clip that lights up


def fading(step: int):
    """Clips that light up or fade; which of the two is all that the prompt says, and a single frame tells neither."""
    up = torch.tensor([True, False, True, False])
    latents = (torch.where(up, 1.0, -1.0)[:, None] * RAMP)[:, None, :, None, None].expand(4, 4, 4, 4, 4)
    return Batch(latents.contiguous(), prompts(up))


def prompts(up: torch.Tensor) -> torch.Tensor:
    return torch.where(up[:, None, None], 1.0, -1.0) * torch.linspace(-1, 1, 32).expand(len(up), 3, 32)


def test_every_parameter_is_in_one_group_and_gates_have_their_own_rate():
    network = small_network()
    temporal = network.temporal
    groups = groups_of(network, small_recipe(alpha_learning_rate=0.5))
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len(set(map(id, grouped))) == len(list(temporal.parameters()))
    gates = {id(p) for name, p in temporal.named_parameters() if name.endswith("gate")}
    assert {id(p) for group in groups if group["lr"] == 0.5 for p in group["params"]} == gates


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_trains_the_same(precision):
    losses = []
    for checkpointing in (False, True):
        recipe = small_recipe(precision=precision, checkpointing=checkpointing)
        losses.append([state.loss for state in train_video(small_network(), fading, SCHEDULE, recipe)])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][-1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_spatial_weights_stay_bit_for_bit_and_temporal_ones_move(precision):
    network = small_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    states = list(train_video(network, fading, SCHEDULE, small_recipe(precision=precision)))
    assert [state.step for state in states] == [1, 2, 3, 4, 5, 6]
    for name, tensor in network.state_dict().items():
        if name.startswith("unet."):
            assert torch.equal(tensor, before[name]), name
    moved = [name for name in before if not torch.equal(network.state_dict()[name], before[name])]
    assert len(moved) == len(list(network.temporal.parameters()))
    assert all(p.requires_grad is False and p.dtype == torch.float32 for p in network.unet.parameters())


def test_temporal_layers_learn_what_the_image_network_cannot_know():
    """From pure noise, only the prompt and a frame's place in the clip can tell how bright the frame must be."""
    network = small_network()
    recipe = small_recipe(steps=40, learning_rate=5e-3, alpha_learning_rate=5e-2, warmup_steps=5)
    losses = [state.loss for state in train_video(network, fading, SCHEDULE, recipe)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    noise, last = torch.randn(2, 4, 4, 4, 4, generator=generator(1)), torch.tensor([999, 999])
    with torch.no_grad():
        x0 = -network(noise, last, prompts(torch.tensor([True, False])))  # v = -x0 where alpha(t) = 0
    brightness = x0.mean(dim=(1, 3, 4))
    assert torch.corrcoef(torch.stack([brightness[0], RAMP]))[0, 1] > 0.8
    assert torch.corrcoef(torch.stack([brightness[1], -RAMP]))[0, 1] > 0.8


def stills(step: int) -> StillBatch:
    """Pictures of one brightness, as the prompt says it."""
    up = torch.tensor([True, False] * 4)
    return StillBatch(torch.where(up, 1.0, -1.0)[:, None, None, None].expand(8, 4, 4, 4), prompts(up))


def test_an_image_network_with_a_learning_rate_learns_along_and_stays_an_image_network():
    network = small_network()
    before = {name: tensor.clone() for name, tensor in network.unet.state_dict().items()}
    recipe = small_recipe(steps=40, learning_rate=5e-3, image_learning_rate=5e-3, warmup_steps=5)
    states = list(train_video(network, fading, SCHEDULE, recipe, stills_at=stills))
    assert not any(torch.equal(tensor, before[name]) for name, tensor in network.unet.state_dict().items())
    still = [state.metrics["stills"] for state in states]
    assert sum(still[-5:]) < 0.7 * sum(still[:5])
    noise, last = torch.randn(2, 4, 4, 4, generator=generator(1)), torch.tensor([999, 999])
    with torch.no_grad():  # by itself, as nobody's clip: v = -x0 where alpha(t) = 0
        x0 = -network.unet(noise, last, encoder_hidden_states=prompts(torch.tensor([True, False]))).sample
    assert x0[0].mean() > 0.3
    assert x0[1].mean() < -0.3


def test_its_weights_are_written_with_the_temporal_ones_and_training_resumes_with_both(tmp_path):
    data, out = write_clips(tmp_path / "data"), build_image_folder(tmp_path / "model")
    kept = {p: p.read_bytes() for p in out.rglob("*.safetensors") if p.parent.name != "unet"}
    before = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    recipe = small_recipe(steps=3, frames=4, image_learning_rate=1e-2, stills=2, checkpoint_minutes=1e-9)
    straight = [state.loss for state in train(recipe, data, out)]
    after = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    assert before.keys() == after.keys()
    assert not any(torch.equal(after[name], before[name]) for name in before if name.endswith("conv1.weight"))
    assert all(p.read_bytes() == content for p, content in kept.items())
    again = build_image_folder(tmp_path / "again")
    losses = [state.loss for state in itertools.islice(train(recipe, data, again), 2)]
    losses += [state.loss for state in train(recipe, data, again, resume=True)]
    assert losses == straight
    resumed = load_file(again / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(resumed[name], after[name]) for name in after)


@torch.no_grad()
def test_going_on_may_add_an_ear_for_given_frames_which_changes_nothing_yet(tmp_path):
    source = build_video_folder(tmp_path / "source")
    model = load_image_model(source)
    wider = first_layers(small_recipe(start="continue", known_share=0.5), model, source)
    x, tokens, t = torch.randn(1, 4, 4, 16, 16), torch.randn(1, 6, 32), torch.tensor([500])
    before = VideoUNet(model.unet, load_temporal(source))(x, t, tokens)
    shown = told(x, torch.tensor([[True, False, False, False]]))
    assert torch.equal(VideoUNet(model.unet, wider)(x, t, tokens, None, shown), before)
    add_temporal(source, wider)
    assert first_layers(small_recipe(start="continue"), model, source).known is not None


def test_given_frames_are_shown_and_help():
    """What a clip does after its first frame need not be guessed by who is shown it."""
    network = small_network(known=True)
    recipe = small_recipe(steps=60, learning_rate=5e-3, alpha_learning_rate=5e-2, warmup_steps=5, known_share=1.0)

    def shown(step: int) -> Batch:
        batch = fading(step)
        given = torch.zeros(4, 4, dtype=torch.bool)
        given[:, 0] = True
        return batch._replace(tokens=torch.zeros_like(batch.tokens), given=given)

    list(train_video(network, shown, SCHEDULE, recipe))
    clips = fading(0).latents[:2]
    known = told(clips, torch.tensor([[True, False, False, False]] * 2))
    noise, tokens = torch.randn(2, 4, 4, 4, 4, generator=generator(1)), torch.zeros(2, 3, 32)
    with torch.no_grad():
        x0 = -network(noise, torch.tensor([999, 999]), tokens, None, known)
    last = x0[:, :, 3].mean(dim=(1, 2, 3))
    assert last[0] - last[1] > 0.4  # one lights up, the other fades


def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    recipe = small_recipe(checkpoint_minutes=1e-9)
    whole, parts = small_network(), small_network()
    straight = [state.loss for state in train_video(whole, fading, SCHEDULE, recipe)]
    file = tmp_path / "video.pt"
    first = itertools.islice(train_video(parts, fading, SCHEDULE, recipe, checkpoint=file), 3)
    losses = [state.loss for state in first]
    other = small_network()  # a new process has new layers
    losses += [state.loss for state in train_video(other, fading, SCHEDULE, recipe, checkpoint=file, resume=True)]
    assert losses == straight
    for name, tensor in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_resuming_from_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="checkpoint"):
        next(train_video(small_network(), fading, SCHEDULE, small_recipe(), checkpoint=tmp_path / "x", resume=True))


def emoji(folder: Path) -> Path:
    """Three of the real clips, as a user's own folder."""
    lines = (EMOJI / "captions.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    (folder / "clips").mkdir(parents=True)
    for line in lines:
        shutil.copy(EMOJI / json.loads(line)["file"], folder / json.loads(line)["file"])
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


SOURCES = {"drawn": write_clips, **({"emoji": emoji} if EMOJI.is_dir() else {})}


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_training_stage_turns_an_image_folder_and_clips_into_a_video_model(tmp_path, write):
    data, out = write(tmp_path / "data"), build_image_folder(tmp_path / "model")
    image = {p: p.read_bytes() for p in out.rglob("*.safetensors")}
    states = list(train(small_recipe(steps=2, frames=8), data, out))
    assert states[-1].step == 2
    assert all(p.read_bytes() == content for p, content in image.items())
    weights = load_file(out / "temporal" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert load_temporal(out).alphas() != {}
    index = json.loads((out / "model_index.json").read_text())
    assert index["temporal"] == ["video.network", "TemporalLayers"]
    cached = np.load(next(data.glob(".kinoform/*-latents-*.npy")))
    assert cached.shape[1:] == (8, 4, 16, 16)


def test_training_into_an_empty_folder_copies_the_image_model_there(tmp_path):
    data, source = write_clips(tmp_path / "data"), build_video_folder(tmp_path / "source")
    out = tmp_path / "out"
    list(train(small_recipe(steps=1, model=str(source), start="continue"), data, out))
    assert (out / "unet" / "config.json").read_bytes() == (source / "unet" / "config.json").read_bytes()
    before, after = load_temporal(source).alphas(), load_temporal(out).alphas()
    assert before == dict.fromkeys(before, 0.5)
    assert after != before
    assert all(abs(after[name] - 0.5) < 0.1 for name in after)  # went on from the source's layers


def test_where_the_folder_has_no_layers_yet_those_of_the_model_go_on(tmp_path):
    data, source = write_clips(tmp_path / "data"), build_video_folder(tmp_path / "source")
    out = build_image_folder(tmp_path / "out")  # the image model was trained first
    list(train(small_recipe(steps=1, model=str(source), start="continue"), data, out))
    assert all(abs(alpha - 0.5) < 0.1 for alpha in load_temporal(out).alphas().values())


def test_going_on_keeps_the_share_of_noise_unless_another_is_given(tmp_path):
    source = build_video_folder(tmp_path / "source")
    model = load_image_model(source)
    add_temporal(source, TemporalLayers.for_unet(model.unet, embed_dim=32, noise_share=0.3))
    for given, old, new in ((None, 0.3, 0.5), (0.8, 0.8, 0.8)):
        recipe = small_recipe(start="continue", noise_share=given)
        assert first_layers(recipe, model, source).noise_share == old
        assert first_layers(small_recipe(noise_share=given), model, source).noise_share == new


@torch.no_grad()
def test_going_on_may_add_attention_over_space_and_time_which_changes_nothing_yet(tmp_path):
    source = build_video_folder(tmp_path / "source")
    model = load_image_model(source)
    old = load_temporal(source)
    x, tokens = torch.randn(1, 4, 4, 16, 16), torch.randn(1, 6, 32)
    before = VideoUNet(model.unet, old)(x, torch.tensor([500]), tokens)
    wider = first_layers(small_recipe(start="continue", space_time_levels=1), model, source)
    assert sum(block.space_time is not None for block in wider.blocks) > 0
    assert torch.equal(VideoUNet(model.unet, wider)(x, torch.tensor([500]), tokens), before)
    add_temporal(source, wider)
    kept = first_layers(small_recipe(start="continue"), model, source)
    assert kept.config["space_time"] == wider.config["space_time"]
    fresh = first_layers(small_recipe(space_time_levels=1), model, source)
    assert fresh.config["space_time"] == wider.config["space_time"]


def test_clips_too_short_to_be_seen_finely_are_refused(tmp_path):
    data, out = write_clips(tmp_path / "data", frames=10), build_image_folder(tmp_path / "model")
    with pytest.raises(InputError, match=r"expected 13 frames, got 10\. Use --fineness 1"):
        next(train(small_recipe(frames=5, fineness=3), data, out))


class Watched:
    """In place of a network's forward: remembers what it is asked, and answers 0."""

    def __init__(self):
        self.x_t, self.t = [], []

    def __call__(self, x_t, t, *_args, **_kwargs):
        self.x_t.append(x_t)
        self.t.append(t)
        return torch.zeros_like(x_t, requires_grad=True)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_a_loss_is_the_weighted_mean_of_what_clips_say_at_their_own_noise_levels(prediction_type, monkeypatch):
    """Of clips that are 0 everywhere x_t is sigma eps; to the answer 0 the error is E v^2 = alpha^2 E eps^2."""
    watched = Watched()
    monkeypatch.setattr(VideoUNet, "forward", lambda self, *args: watched(*args))
    recipe = small_recipe(steps=2, batch_size=3, min_snr_gamma=0.5, noise_bias=1.0)
    zeros = Batch(torch.zeros(3, 4, 4, 32, 32), torch.zeros(3, 16, 32))
    network = small_network()
    states = list(train_video(network, lambda step: zeros, SCHEDULE, recipe, prediction_type=prediction_type))
    for state, x_t, t in zip(states, watched.x_t, watched.t, strict=True):
        alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        assert len(set(t.tolist())) == 3
        for each, deviation in zip(x_t, sigma, strict=True):
            assert float(each.square().mean().sqrt()) == pytest.approx(float(deviation), rel=0.1)
        power = (x_t.square().mean((1, 2, 3, 4)) / sigma**2) * (alpha**2 if prediction_type == "v_prediction" else 1)
        snr = alpha**2 / sigma**2
        low = snr.clamp(max=0.5)
        weight = (low + 1) / (snr + 1) if prediction_type == "v_prediction" else low / snr.clamp(min=1e-20)
        assert state.loss == pytest.approx(float((weight * power).mean()), rel=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_frames_share_noise_as_the_layers_say(monkeypatch, share):
    watched = Watched()
    monkeypatch.setattr(VideoUNet, "forward", lambda self, *args: watched(*args))
    zeros = Batch(torch.zeros(2, 4, 4, 32, 32), torch.zeros(2, 16, 32))
    network = small_network(noise_share=share)
    list(train_video(network, lambda step: zeros, SCHEDULE, small_recipe(steps=1)))
    for clip in watched.x_t[0]:
        together = torch.corrcoef(clip.transpose(0, 1).flatten(1))
        apart = together[~torch.eye(4, dtype=torch.bool)]
        assert apart.mean() == pytest.approx(share, abs=0.03)
