"""AnimateDiff by Kinoform and by stock diffusers: equal frames, seconds, and the memory of activations, on this CPU.

    python -m benchmarks.video_peers [--json] [--only tiny|sd] [--repeats N]

An image model and a motion adapter of random weights are written, tiny ones and ones as wide as Stable Diffusion 1.5
and AnimateDiff's second version, and made into 16 frames with guidance: by what `kinoform clip --motion-adapter` runs,
and by `AnimateDiffPipeline` as it comes, from the same noise. Each side is a process of its own, in float32 with one
thread; they take turns. Seconds are those that the process has of the CPU, which others change least. Memory is the
most that a process holds while it denoises, less what it held before (Linux). The autoencoder is a quarter as wide
as Stable Diffusion's, so that beside two steps it weighs about what the whole one does beside twenty.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Row, as_json, table
from benchmarks.speed import machine

PROMPT, NEGATIVE = "a red cube moving left", "a blue ball"
FRAMES, STEPS, GUIDANCE = 16, 2, 7.5
FASTER, LEANER, EQUAL = 1.3, 0.7, 1e-4
OURS, STOCK = "kinoform", "diffusers"


@dataclass(frozen=True)
class Case:
    """timed, held: sides in pixels of the clips whose time, and whose memory, is measured."""

    name: str
    widths: tuple[int, ...]
    text_width: int
    groups: int
    autoencoder: tuple[int, ...]
    timed: int
    held: int


CASES = {
    "tiny": Case("tiny", (32, 64), 32, 8, (8, 16, 16, 16), 128, 128),
    "sd": Case("as wide as SD 1.5", (320, 640, 1280, 1280), 768, 32, (32, 64, 128, 128), 64, 128),
}


def write_models(folder: Path, case: Case) -> None:
    """The folders `image` and `adapter`, in half precision."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from shared.models.prompts.vocabulary import learn_tokenizer
    from shared.models.save import save_image_model

    tokenizer = learn_tokenizer([PROMPT, NEGATIVE], max_length=77)
    attends = [*[True] * (len(case.widths) - 1), len(case.widths) < 4]
    words = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=case.text_width, intermediate_size=4 * case.text_width,
        num_hidden_layers=2, num_attention_heads=8, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with init_empty_weights(include_buffers=False):
        parts = {
            "unet": UNet2DConditionModel(
                sample_size=case.timed // 8, block_out_channels=case.widths, cross_attention_dim=case.text_width,
                norm_num_groups=case.groups, attention_head_dim=8,
                down_block_types=[f"{'CrossAttn' * on}DownBlock2D" for on in attends],
                up_block_types=[f"{'CrossAttn' * on}UpBlock2D" for on in reversed(attends)],
            ),
            "vae": AutoencoderKL(
                block_out_channels=case.autoencoder, norm_num_groups=8, layers_per_block=2,
                down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
            ),
            "text_encoder": CLIPTextModel(words),
        }  # fmt: skip
        adapter = MotionAdapter(case.widths, motion_norm_num_groups=case.groups)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    filled: Any = {name: with_random_weights(part) for name, part in parts.items()}
    save_image_model(folder / "image", **filled, tokenizer=tokenizer, scheduler=scheduler)
    with_random_weights(adapter).save_pretrained(folder / "adapter")


def with_random_weights(network: Any) -> Any:
    """Normal ones, as small as their number wants it: a million over and over, for drawing a billion takes long."""
    import torch
    from torch import nn

    drawn = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).half()
    for name, weight in list(network.named_parameters()):
        value = torch.full(weight.shape, float("norm" in name and name.endswith("weight")), dtype=torch.half)
        if weight.ndim > 1:
            whole = drawn.repeat(-(-weight.numel() // len(drawn)))[: weight.numel()]
            value = whole.view(weight.shape) * weight[0].numel() ** -0.5
        place, _, last = name.rpartition(".")
        setattr(network.get_submodule(place), last, nn.Parameter(value, requires_grad=False))
    return network


Make = Callable[[int, int, bool], np.ndarray]


def side_of(name: str, folder: Path) -> Make:
    """(pixels, steps, whether to decode) -> frames "t h w 3" in [0, 1], or latents "c t h w", by one side with its
    models loaded, from the noise of seed 0."""
    return _ours(folder) if name == OURS else _stock(folder)


def _ours(folder: Path) -> Make:
    from shared.latents.decoding import decode
    from video.generate import load_video_model, sample_latents
    from video.recipe import ClipRecipe

    adapter = folder / "adapter" / "diffusion_pytorch_model.safetensors"
    model = load_video_model(folder / "image", motion_adapter=[str(adapter)])

    def make(pixels: int, steps: int, decoded: bool) -> np.ndarray:
        recipe = ClipRecipe(
            prompt=PROMPT, negative=NEGATIVE, frames=FRAMES, width=pixels, height=pixels, steps=steps,
            guidance_scale=GUIDANCE, guidance_rescale=0.0, temporal_guidance_scale=1.0,
        )  # fmt: skip
        latents = [state.latents for state in sample_latents(model, [recipe])][-1]
        if not decoded:
            return latents[0].numpy()
        frames = decode(model.image.codec, latents, recipe.memory)[0]
        return (frames / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).numpy()

    return make


def _stock(folder: Path) -> Make:
    import torch
    from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter

    from shared.diffusion.step_noise import standard_normal
    from shared.rng import generator

    adapter = MotionAdapter.from_pretrained(folder / "adapter", torch_dtype=torch.float32)
    pipeline = AnimateDiffPipeline.from_pretrained(folder / "image", motion_adapter=adapter, torch_dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, beta_schedule="linear")

    def make(pixels: int, steps: int, decoded: bool) -> np.ndarray:
        noise = standard_normal((4, FRAMES, pixels // 8, pixels // 8), generator(0))[None]
        made = pipeline(
            PROMPT, negative_prompt=NEGATIVE, num_frames=FRAMES, width=pixels, height=pixels,
            num_inference_steps=steps, guidance_scale=GUIDANCE, latents=noise,
            output_type="np" if decoded else "latent",
        )  # fmt: skip
        return made.frames[0]

    return make


def serve(name: str, folder: Path) -> None:
    """One side: for every line of input, "PIXELS STEPS DECODED FILE", a clip into the file, and a line of figures."""
    import torch

    torch.set_num_threads(1)
    answer, sys.stdout = sys.stdout, sys.stderr  # the libraries below print what they like
    make = side_of(name, folder)
    print("ready", file=answer, flush=True)
    for line in sys.stdin:
        pixels, steps, decoded, file = line.split(maxsplit=3)
        before = _from_here()
        wall, cpu = time.perf_counter(), time.process_time()
        frames = make(int(pixels), int(steps), decoded == "True")
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "bytes": _peak() - before}
        np.save(file.strip(), frames)
        print(json.dumps(took), file=answer, flush=True)


def _from_here() -> int:
    """What the process holds; its peak counts from here, and what it holds without need is given back before."""
    from shared.compute.process_memory import resident_bytes

    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes() or 0


def _peak() -> int:
    from shared.compute.process_memory import peak_bytes

    return peak_bytes() or 0


class Side:
    """A process that serves."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.file = name, folder / f"{name}.npy"
        command = [sys.executable, "-m", "benchmarks.video_peers", "--serve", name, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def make(self, pixels: int, steps: int, *, decoded: bool = True) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{pixels} {steps} {decoded} {self.file}\n")
        self.process.stdin.flush()
        return json.loads(self._read())

    def frames(self) -> np.ndarray:
        """Of the last clip."""
        return np.load(self.file)

    def close(self) -> None:
        self.process.communicate()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended without an answer")
        return line


def measure(case: Case, repeats: int, say: Callable[[str], None]) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write = [sys.executable, "-m", "benchmarks.video_peers", "--models", json.dumps(asdict(case)), str(folder)]
        subprocess.run(write, check=True)  # a process of its own, which gives back what it held
        sides = [Side(name, folder) for name in (STOCK, OURS)]
        times: list[list[dict[str, float]]] = []
        for turn in range(-1, repeats):  # one to warm up
            times.append([side.make(case.timed, STEPS if turn >= 0 else 1) for side in sides])
            say(f"{case.name}, turn {turn + 1}: " + ", ".join(f"{took['cpu']:.1f} s" for took in times[-1]))
        apart = float(np.abs(np.subtract(*(side.frames() for side in sides))).max())
        spread = float(sides[0].frames().std())
        held = [side.make(case.held, 1, decoded=False)["bytes"] / 2**20 for side in sides]
        for side in sides:
            side.close()
    return [*_ratios(case, times[1:]), *_memory(case, held), Row(
        f"{case.name}: frames apart, at most (their deviation is {spread:.2f})", apart, 1, apart, apart, EQUAL, True
    )]  # fmt: skip


def _ratios(case: Case, times: Sequence[Sequence[dict[str, float]]]) -> list[Row]:
    rows = []
    for key, what, aim in (("cpu", "CPU seconds", FASTER), ("wall", "seconds", None)):
        both = np.array([[took[key] for took in turn] for turn in times])
        ratios = both[:, 0] / both[:, 1]
        stock, ours = np.median(both, axis=0)
        metric = f"{case.name}, {case.timed} px: {what}, {STOCK} / {OURS} ({stock:.2f} / {ours:.2f})"
        rows.append(Row(metric, float(np.median(ratios)), len(times), ratios.min(), ratios.max(), aim))
    return rows


def _memory(case: Case, held: Sequence[float]) -> list[Row]:
    share = held[1] / held[0]
    metric = f"{case.name}, {case.held} px: activations, MiB, {OURS} / {STOCK} ({held[1]:.0f} / {held[0]:.0f})"
    return [Row(metric, share, 1, share, share, LEANER, True)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video_peers", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CASES, help="one size of models")
    parser.add_argument("--repeats", type=int, default=3, help="clips of each side whose time is taken")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    parser.add_argument("--models", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.models:
        write_models(Path(args.models[1]), Case(**json.loads(args.models[0])))
        return 0
    if args.serve:
        serve(args.serve[0], Path(args.serve[1]))
        return 0
    cases = [CASES[args.only]] if args.only else list(CASES.values())
    rows = [
        row
        for case in cases
        for row in measure(case, args.repeats, lambda line: print(line, file=sys.stderr, flush=True))
    ]
    if args.json:
        print(as_json(rows, machine=machine()))
    else:
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        print(table(rows).replace("95% interval", " extremes   "))
    return 0


if __name__ == "__main__":
    sys.exit(main())
