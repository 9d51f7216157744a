"""Folders of results for the page, written by the project's own writers: pictures of the world, with records."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from lab.web.items import Item, item_of_file
from shared.artifacts.media import TAG, write_clip, write_image
from shared.artifacts.run_record import RunRecord
from world.dataset import draw_samples

HOSTILE = (
    '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> "quoted" \u2028 \U0001f986'
)
TURNED_ROUND = "تفاحة حمراء بجانب كرسي أزرق"
LONG = "a very long prompt, " * 5000


def record(kind, prompt, seed, **more):
    recipe = {"prompt": prompt, "negative": "", "model": "world", "seed": seed, "steps": 25, "guidance_scale": 5.0}
    recipe |= {"width": 64, "height": 64, "memory": {"decode": "auto", "offload": "none"}, **more}
    return RunRecord.of_run(kind, recipe, seed, "world", {"unet/model.safetensors": "ab" * 32})


def write_results(folder):
    """Twelve results of every sort: five pictures, four clips, two assets and one of them turning."""
    for number, sample in enumerate(draw_samples(5, kind="images", seed=1)):
        text = record("image", sample.caption, number, steps=20 + number).to_json()
        write_image(folder / "images" / f"{number}.png", sample.pixels[0], {TAG: text})
    endings = (".mp4", ".webp", ".gif", "")
    for number, sample in enumerate(draw_samples(4, kind="clips", seed=2)):
        text = record("clip", sample.caption, number, frames=16, fps=8, guidance_scale=3.0 + number).to_json()
        write_clip(folder / "clips" / f"clip-{number}{endings[number]}", sample.pixels, 8, {TAG: text})
    for number, caption in enumerate(("a red mushroom", "a blue chair")):
        write_asset(folder / "assets", caption, number)
    return [item for path in results(folder) if (item := item_of_file(folder, path))]


def results(folder):
    return [path for part in ("images", "clips", "assets") for path in sorted((folder / part).iterdir())]


def write_asset(folder, caption, number):
    from dreamfusion.mesh.files.write import write_mesh
    from dreamfusion.mesh.turntable import turntable
    from world.mesh import scene_mesh
    from world.prompt import Composition
    from world.scene import arrange

    mesh = scene_mesh(arrange(Composition.parse(caption)), 64)
    about = record("asset", caption, number)
    name = caption.replace(" ", "-")
    write_mesh(folder / f"{name}.glb", mesh, about)
    if number == 0:
        write_clip(folder / f"{name}-turning.mp4", turntable(mesh, frames=12, size=96), 6, {TAG: about.to_json()})


def batch(items):
    """Those items as a batch of jobs would tell of them, with others that are under way or have failed."""
    rng = np.random.default_rng(0)
    done = [
        replace(
            item,
            tags=("autumn", "heroes") if number % 3 == 0 else ("autumn",),
            seconds=round(3 + 40 * float(rng.random()), 2),
            scores={"clip": round(0.2 + 0.3 * float(rng.random()), 4)},
            template="a {red|blue|green} {thing}" if number % 2 else None,
        )
        for number, item in enumerate(items)
    ]
    failure = (
        "InputError: model runs/mine: expected the weights the file was made with (3fa1b0), got none. Give --model"
    )
    return [
        *done,
        Item("lamps/3", "running", "clip", "a purple lamp spinning", model="world", seed=3, done_share=0.64),
        Item("lamps/4", "running", "asset", "a purple lamp", model="world", seed=4, done_share=0.12),
        Item("cars/1", "failed", "image", "a green car next to a blue cube", model="mine", seed=1, error=failure),
        Item("cars/2", "poisoned", "asset", "a green car", model="mine", error="Three workers ended: no memory"),
        Item("cars/3", "cancelled", "clip", "a green car moving left", model="world", seed=9),
        Item("ducks/5", "queued", "image", "a yellow duck", model="world", seed=5),
        Item("ducks/5/upscale", "blocked", "upscale", "a yellow duck"),
    ]  # fmt: skip


def hostile(folder):
    """Items whose texts are after the page, and files that are not what they say."""
    about = record("image", HOSTILE, 2**62 + 1, **{"__proto__": {"x": 1}, HOSTILE: HOSTILE})
    pixels = np.full((48, 96, 3), 120, np.uint8)
    odd = folder / "odd #?% names" / "50 % “off”.png"
    write_image(odd, pixels, {TAG: about.to_json()})
    write_image(folder / "right-to-left.png", pixels, {TAG: record("image", TURNED_ROUND, 1).to_json()})
    write_image(folder / "long.png", pixels, {TAG: record("image", LONG, 1).to_json()})
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "broken.glb").write_bytes(b"glTF" + bytes(40))
    (folder / "said.json").write_text(json.dumps({"score": 0.31, "prompt": HOSTILE}))
    return [
        *(item_of_file(folder, path) for path in (odd, folder / "right-to-left.png", folder / "long.png")),
        Item("broken picture", "done", "image", "a broken picture", output="broken.png"),
        Item("broken asset", "done", "asset", "a broken asset", output="broken.glb"),
        Item("elsewhere", "done", "image", "a file elsewhere", output="../../etc/passwd"),
        Item("gone", "done", "image", "a file that is gone", output="gone.png"),
        Item("said", "done", "describe", "what is known", output="said.json"),
        Item(HOSTILE, "failed", HOSTILE, HOSTILE, tags=(HOSTILE,), model=HOSTILE, error=HOSTILE),
    ]


def many(folder, count=5000):
    """So many items, with a few pictures among them that all share."""
    recipe = record("image", "", 0).recipe  # one record: each looks up the versions of what is installed
    samples = list(draw_samples(40, kind="images", seed=5))
    for number, sample in enumerate(samples):
        write_image(folder / f"{number}.png", sample.pixels[0])
    return [
        Item(
            f"sweep/{number:05d}", "failed" if number % 97 == 0 else "done", "image", samples[number % 40].caption,
            model="world" if number % 3 else "mine", seed=number, tags=(f"run {number % 7}",),
            output=None if number % 97 == 0 else f"{number % 40}.png", seconds=2 + number % 50 / 10,
            scores={"clip": (number * 7919 % 1000) / 1000}, recipe={**recipe, "seed": number},
            error="KinoformError: no more memory" if number % 97 == 0 else None,
        )
        for number in range(count)
    ]  # fmt: skip


def folder_of(base, name):
    made = Path(base) / name
    made.mkdir(parents=True, exist_ok=True)
    return made
