"""Which pipeline classes of diffusers `kinoform image` and `kinoform clip` run, shown with tiny random models.

    python -m benchmarks.model_classes [CLASS...] [--write docs/models.md]

Each model is saved as a diffusers folder; what the command makes of it is compared with what the class makes itself.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lab.kinds import kinds
from lab.main import main as kinoform
from shared.artifacts.media import read_clip, read_image, write_image
from shared.errors import InputError
from shared.models.pipelines.load import PipelineModel, load_pipeline
from shared.models.pipelines.run import frames_of, run_pipeline
from shared.rng import generator
from tests.shared.models.pipelines.tiny.table import PROMPT, TINY, Tiny

CLOSE = 1e-4  # of values in [0, 1]
SEED = 5
COLUMNS = ("class", "command", "largest difference from its own", "refuses, offering", "stops within a step", "rerun")
START, END = "<!-- classes: python -m benchmarks.model_classes --write docs/models.md -->", "<!-- classes end -->"


@dataclass(frozen=True)
class Row:
    """What was seen of one class. difference: the largest from what the class makes itself, of values in [0, 1].

    refused: the keys whose wrong value was refused with the nearest right one, and that. stopped: whether the network
    ran no further than the step at which it was closed. again: whether `kinoform rerun` gave the same bytes.
    """

    name: str
    kind: str
    difference: float
    refused: dict[str, int]
    stopped: bool
    again: bool

    @property
    def cells(self) -> tuple[str, ...]:
        offers = ", ".join(f"{key} {value}" for key, value in self.refused.items()) or "takes no size"
        equal = f"{self.difference:.0e}" if self.difference else "0"
        return (
            f"`{self.name}`",
            self.kind,
            equal,
            offers,
            *("yes" if ok else "NO" for ok in (self.stopped, self.again)),
        )


def look(name: str, tiny: Tiny, folder: Path) -> Row:
    """Try everything with one class, in an empty folder. Raises AssertionError, naming the class, for what is wrong."""
    with _quiet():
        save(tiny, folder / "model")
        picture = folder / "given.png"
        write_image(picture, np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8), {})
        own = _own(tiny, picture)
        model = load_pipeline(folder / "model", pipeline_class=tiny.recipe.get("pipeline_class", name))
        values = {"prompt": PROMPT, "seed": SEED, "model": str(folder / "model"), **tiny.recipe}
        values |= {"image": str(picture)} if tiny.picture else {}
        recipe = kinds()[tiny.kind].recipe.parse(values)
        *_, last = run_pipeline(model, recipe)
        assert last.values is not None
        assert last.values.shape == own.shape, f"{name} made {last.values.shape}, itself {own.shape}"
        refused = {key: _refused(model, recipe, key, *pair) for key, pair in tiny.wrong.items()}
        stopped = _stopped(model, recipe)
        made, again = _made_twice(tiny, values, folder)
    difference = float(np.abs(last.values - own).max())
    assert difference <= CLOSE, f"{name} is {difference} from what the class makes"
    levels = int(np.abs(made.astype(int) - (own * 255).round().astype(int)).max())
    assert levels <= 1, f"{name}: the file is {levels} of 255 levels from what the class makes"
    assert own.std() > 1e-3, f"{name} makes one colour, which shows nothing"
    return Row(name, tiny.kind, difference, refused, stopped, again)


def save(tiny: Tiny, folder: Path) -> None:
    """A folder as they are published: with the libraries of its parts where this diffusers writes another."""
    tiny.build().save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    for part, library in tiny.libraries.items():
        index[part][0] = library
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")


def _own(tiny: Tiny, picture: Path) -> np.ndarray:
    """What the class itself makes, with the weights that were saved."""
    pipeline = tiny.build()
    pipeline.set_progress_bar_config(disable=True)
    values: dict[str, Any] = {key: value for key, value in tiny.own.items() if value is not None}
    if tiny.picture:
        values["image"] = Image.open(picture)
        if "width" in values:
            values["image"] = values["image"].resize((values["width"], values["height"]), Image.Resampling.LANCZOS)
    if tiny.prompt:
        values["prompt"] = PROMPT
    if tiny.recipe.get("decode") == "tiled":
        pipeline.vae.enable_tiling()
    with torch.no_grad():
        made = pipeline(**values, generator=generator(SEED), output_type="np")
    return frames_of(made, clip=tiny.kind == "clip")


def _refused(model: PipelineModel, recipe: Any, key: str, wrong: int, nearest: int) -> int:
    """The nearest right value, which the refusal names, and which runs."""
    try:
        next(run_pipeline(model, recipe.model_copy(update={key: wrong})))
    except InputError as error:
        if error.what == key and str(nearest) in str(error.expected):
            return nearest
        raise
    raise AssertionError(f"{model.class_name} takes {key} {wrong}")


def _stopped(model: PipelineModel, recipe: Any) -> bool:
    """Whether nothing runs any more after the generator is closed at its first step."""
    calls: list[str] = []
    hooks = [
        network.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, network in model.networks.items()
    ]
    states = run_pipeline(model, recipe)
    first = next(states)
    before = len(calls)
    states.close()  # type: ignore[attr-defined]
    for hook in hooks:
        hook.remove()
    return first.step < first.total and before > 0 and len(calls) == before


def _made_twice(tiny: Tiny, values: dict[str, Any], folder: Path) -> tuple[np.ndarray, bool]:
    """The pixels of the command's file, and whether `kinoform rerun` gives its bytes."""
    names = ("made.png", "again.png") if tiny.kind == "image" else ("made", "again")
    made, again = (folder / name for name in names)
    flags = [
        f"--{key.replace('_', '-')}={value}"
        for key, value in values.items()
        if key not in ("prompt", "width", "height")
    ]
    flags += [f"--size={values['width']}x{values['height']}"] if "width" in values else []
    for command in ([tiny.kind, PROMPT, *flags, "-o", str(made)], ["rerun", str(made), "-o", str(again)]):
        code = kinoform([*command, "--device", "cpu"])
        assert code == 0, " ".join(command)
    files = sorted(path.relative_to(made) for path in made.rglob("*")) if made.is_dir() else [Path()]
    same = all((made / file).read_bytes() == (again / file).read_bytes() for file in files)
    return read_clip(made).frames if tiny.kind == "clip" else read_image(made)[None], same


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The commands and the libraries below have a lot to say."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            yield
    except BaseException:
        sys.stderr.write(said.getvalue()[-4000:])
        raise


def table(rows: list[Row]) -> str:
    """The rows as markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def written(text: str, made: str) -> str:
    """A page with another table between the marks. Raises ValueError where it has none."""
    before, rest = text.split(START)
    return f"{before}{START}\n{made}\n{END}{rest.split(END)[1]}"


def run(names: list[str], say: Callable[[str], None]) -> list[Row]:
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(look(name, TINY[name], Path(folder)))
        say(f"{name}: {rows[-1].cells[2:]}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="CLASS", nargs="*", default=list(TINY), help="all where none is named")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    args = parser.parse_args()
    made = table(run(args.names, lambda line: print(line, file=sys.stderr)))
    if args.write is None:
        print(made)
    else:
        args.write.write_text(written(args.write.read_text("utf-8"), made), "utf-8")


if __name__ == "__main__":
    main()
