"""How much a video network hears of what it is told beside its clip: how far its answer moves when only that changes.

    python -m benchmarks.heard [--model M] [--prompts "A" "B" ...]

The answer is x0 of pure noise (shapes are settled while there is much of it), its move the root mean square over its
own deviation. A condition that moves it by a hundredth is as good as not there, however its weights look.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import torch

from shared.diffusion.conditioning import Conditioning
from shared.errors import KinoformError
from shared.rng import generator
from shared.view_words import view_prompts, view_word
from video.frames.known import told
from video.frames.noise import mixed_noise
from video.generate import VideoModel, load_video_model
from video.network import VideoUNet

PROMPTS = ("a yellow duck", "a green car", "a blue chair", "a red arrow")
NOISE = (0.95, 0.8, 0.6)  # shares of the schedule
FRAMES = 8


def told_apart(model: VideoModel, prompt: str, other: str) -> Iterator[tuple[str, Conditioning, Conditioning]]:
    """(what changes, a condition, the same with that changed alone) for whatever the network's layers know of."""
    assert isinstance(model.network, VideoUNet), "layers of our own"
    image, layers = model.image, model.network.temporal
    plain, side = image.conditions([prompt]), image.default_size // image.codec.factor
    yield "the prompt: another thing", plain, image.conditions([other])
    moving = image.conditions([f"{prompt} moving left"])
    moments = torch.linspace(0, 1, FRAMES, dtype=torch.float64)[None]
    yield "moments: backwards", *(moving.with_frames(moments=each) for each in (moments, moments.flip(1)))
    if layers.embedding.camera is not None:
        turn = torch.tensor([[[360 * view / FRAMES, 20.0] for view in range(FRAMES)]])
        cameras = turn, turn * torch.tensor([-1.0, 1.0])
        yield "cameras: the mirrored ones", *(plain.with_frames(camera=camera) for camera in cameras)
        words = view_prompts(prompt)
        seen = image.conditions([words[view_word(*view)] for view in turn[0].tolist()]).text
        assert seen is not None, "a prompt is text"
        half = seen.roll(FRAMES // 2, dims=0)
        yield (
            "words of each view: half a turn on",
            *(plain.with_frames(camera=turn, frame_text=text[None]) for text in (seen, half)),
        )
    if layers.known is not None:
        given = torch.zeros(1, FRAMES, dtype=torch.bool)
        given[:, 0] = True
        pictures = [
            told(torch.randn(1, image.codec.latent_channels, FRAMES, side, side, generator=generator(i)), given)
            for i in range(2)
        ]
        yield "the first frame given: another one", *(plain.with_frames(known=picture) for picture in pictures)


@torch.no_grad()
def moved(model: VideoModel, one: Conditioning, other: Conditioning, noise: float, seed: int) -> float:
    """How far x0 moves, over its own deviation."""
    image = model.image
    side = image.default_size // image.codec.factor
    shape = (1, image.codec.latent_channels, FRAMES, side, side)
    x_t = mixed_noise(shape, generator(seed), share=model.network.noise_share)
    t = torch.tensor([int(noise * (image.schedule.num_timesteps - 1))])
    first, second = (model.denoiser(x_t, t, each).x0 for each in (one, other))
    return float((first - second).square().mean().sqrt() / first.std())


def table(model: VideoModel, prompts: Sequence[str]) -> list[tuple[str, list[float]]]:
    """For each condition the moves at every noise level, means over the prompts."""
    rows: dict[str, list[list[float]]] = {}
    for index, prompt in enumerate(prompts):
        for what, one, other in told_apart(model, prompt, prompts[(index + 1) % len(prompts)]):
            rows.setdefault(what, []).append([moved(model, one, other, noise, index) for noise in NOISE])
    return [(what, torch.tensor(values).mean(dim=0).tolist()) for what, values in rows.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heard", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="world", help="world, or a folder with temporal layers")
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS), metavar="PROMPT")
    args = parser.parse_args(arguments)
    try:
        rows = table(load_video_model(args.model), args.prompts)
    except KinoformError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"| what changes, noise | {' | '.join(f'{noise:g}' for noise in NOISE)} |")
    print(f"|{'---|' * (1 + len(NOISE))}")
    for what, values in rows:
        print(f"| {what} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
