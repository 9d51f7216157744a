"""`kinoform clip | image | asset PROMPT...`: prompts to files, one command for every kind."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.flags import Parser, add_command, add_device_flag, add_recipe_flags, add_sign_flag, given_values
from lab.jobs.best import Scorer, candidates, run_best
from lab.jobs.names import SHEET, folder_of, many, names
from lab.jobs.prompts import Asked, read_prompts
from lab.jobs.run import Context, Job, check, run
from lab.kinds import Kind, Output
from lab.kinds.settled import Settler
from lab.outputs import signer, whole_number
from lab.show.console import Console
from lab.show.run import show_run
from lab.show.sheet import Sheet
from lab.vocabulary import stored_words, with_nearest
from shared.artifacts.files import check_writable
from shared.artifacts.provenance.signature import is_signed
from shared.errors import InputError, KinoformError, one_line
from shared.models.source import find_model

if TYPE_CHECKING:
    from lab.show.preview import Preview

MOST = 100_000  # results of one command


def add_parser(commands: Any, kind: Kind) -> None:
    parser: Parser = add_command(commands, kind.name, partial(make, kind), kind.help, kind.examples)
    parser.usage = f"kinoform {kind.name} PROMPT... [-o FILE|FOLDER/] [--count N] [--seed N] [flags]"
    parser.add_argument("prompts", metavar="PROMPT", nargs="*", default=[], help="what to show, in words and in quotes")
    parser.add_argument(
        "-o", "--output", metavar="PATH",
        help=f"a file ({kind.formats}; default {kind.default}); for many a folder, or a name with {{index}}, {{seed}}, "
        "{prompt}, {kind} in it",
    )  # fmt: skip
    parser.add_argument("--count", metavar="N", help="so many of each prompt, seeds counted up (default 1)")
    add_recipe_flags(parser, kind.recipe, kind=kind.name, first=("seed", "preset", "model"))
    group = parser.add_argument_group("many prompts")
    group.add_argument("--prompts", metavar="FILE", dest="prompts_file",
                       help="prompts from a file, one a line: prompt | negative | seed")  # fmt: skip
    group.add_argument("--best-of", metavar="N", help="make N with seeds counted up and keep the one that scores best")
    group.add_argument("--score-with", metavar="FOLDER",
                       help="what scores: a CLIP, or a model with an image encoder (default: its own)")  # fmt: skip
    group.add_argument("--nearest", action="store_true", default=False,
                       help="known words for those that the model does not know: crimson becomes red")  # fmt: skip
    group.add_argument("--overwrite", action="store_true", default=False, help="replace files that are there already")
    group.add_argument("--batch", metavar="N", help="how many are sampled at once (default: what is fastest)")
    group = parser.add_argument_group("output")
    group.add_argument("--preview", metavar="FILE", help="a PNG that shows how far it is, made anew every second")
    if kind.turntable:
        group.add_argument("--turntable", metavar="FILE", help="also write a clip of it turning, such as turn.mp4")
    add_sign_flag(group)
    add_device_flag(parser)


def make(kind: Kind, args: argparse.Namespace) -> None:
    base = given_values(kind.recipe, vars(args), kind=kind.name)
    count = whole_number("--count", args.count, 1, MOST) if hasattr(args, "count") else 1
    console = Console(as_json=args.json)
    wanted = _asked(kind, args)
    if args.nearest:
        wanted = _nearest(wanted, base.get("model", "world"), console)
    if len(wanted) * count > MOST:
        raise InputError("results", expected=f"at most {MOST}", got=len(wanted) * count)
    tries = whole_number("--best-of", args.best_of, 1, 1000) if hasattr(args, "best_of") else 1
    recipes = [
        kind.recipe.parse({**base, **values}) for asked in wanted for values in _values(asked, base, count, tries)
    ]
    settled = Settler()
    recipes = [settled(kind, recipe) for recipe in recipes]
    output = getattr(args, "output", None)
    several = len(recipes) > 1 or (output is not None and "{" in output)
    if output is None:
        output = f"{kind.name}s/" if several else kind.default
    if several and not many(output):
        raise InputError(
            "output for many results", expected="a folder, or a name with {index} in it", got=output,
            hint=f"Such as: -o {Path(output).stem or 'out'}/",
        )  # fmt: skip
    several = several or (many(output) and not kind.in_folder)
    paths = names(output, kind, recipes) if several else [output]
    jobs = [Job(recipe, _output(args, path, several)) for recipe, path in zip(recipes, paths, strict=True)]
    batch = whole_number("--batch", args.batch, 1, 4096) if hasattr(args, "batch") else None
    context = Context(device.check(args.device), batch, signer=signer(args))
    check(jobs, context)
    sheet = Sheet(folder_of(output) / SHEET, jobs) if several else None
    if sheet is not None:
        jobs = _wanted(jobs, console, overwrite=args.overwrite, tries=tries, signed=context.signer is not None)
        check_writable(sheet.path, (".png",))
    written = [path for path in (*paths, sheet and sheet.path, getattr(args, "turntable", None)) if path is not None]
    runner = run if tries == 1 else partial(run_best, count=tries, scorer=_scorer(args, base))
    show_run(console, jobs, context, sheet=sheet, preview=_preview(args, written), runner=runner)


def _scorer(args: argparse.Namespace, base: dict[str, Any]) -> Scorer:
    """What finds the best. Raises ModelError where the model has no image encoder."""
    from shared.models.clip_scorer import ClipScorer
    from shared.models.source import resolve_model

    return ClipScorer.from_folder(resolve_model(getattr(args, "score_with", base.get("model", "world"))))


def _asked(kind: Kind, args: argparse.Namespace) -> list[Asked]:
    """What the command line and the file ask for, in this order."""
    words = list(args.prompts)
    if len(words) > 1 and not any(" " in prompt.strip() for prompt in words):
        raise InputError(
            "prompts", expected="each prompt in quotes", got=" ".join(words), hint=f'Such as: kinoform {kind.name} "'
            + " ".join(words)[:60] + '"',
        )  # fmt: skip
    for prompt in words:
        if not prompt.strip():
            raise InputError("prompt", expected="some words", got="an empty text")
    asked = [Asked(prompt) for prompt in words]
    if hasattr(args, "prompts_file"):
        asked += read_prompts(args.prompts_file)
    if not asked:
        raise InputError(
            kind.name, expected="PROMPT, or --prompts FILE", got="nothing", hint=f"See: kinoform {kind.name} --help"
        )
    return asked


def _nearest(wanted: Sequence[Asked], model: str, console: Console) -> list[Asked]:
    """What is asked for in words that the model knows, where near ones are; says what became of which."""
    folder = find_model(model)
    words = stored_words(folder) if folder is not None and (folder / "tokenizer").is_dir() else []
    changed, replaced = [], {}
    for asked in wanted:
        prompt, new = with_nearest(asked.prompt, words)
        changed.append(replace(asked, prompt=prompt))
        replaced.update(new)
    for word, other in replaced.items():
        console.say(f'"{one_line(word)}" becomes "{other}"')
    return changed


def _values(asked: Asked, base: dict[str, Any], count: int, tries: int = 1) -> list[dict[str, Any]]:
    """What recipes of one prompt have of their own. tries: seeds that each of them takes."""
    values: dict[str, Any] = {"prompt": asked.prompt}
    if asked.negative is not None:
        values["negative"] = asked.negative
    first = base.get("seed", 0) if asked.seed is None else asked.seed
    if count == 1:
        return [{**values, "seed": first}]
    first = whole_number("seed", str(first), 0, 2**63 - 1)
    return [{**values, "seed": first + number * tries} for number in range(count)]


def _output(args: argparse.Namespace, path: str, several: bool) -> Output:
    turntable = getattr(args, "turntable", None)
    if turntable is not None and several:
        raise InputError("--turntable", expected="one asset", got="many", hint="The contact sheet shows them all")
    return Output(path, turntable)


def _wanted(jobs: Sequence[Job], console: Console, *, overwrite: bool, tries: int, signed: bool) -> list[Job]:
    """The jobs that are still to do: a file that was made from the very same recipe, with one of the seeds that were to
    be tried, is not made again. signed: whether those that are there must be so, too.

    Raises InputError where another file is in the way.
    """
    from shared.artifacts.run_record import read_record

    left = []
    for job in jobs:
        path = Path(str(job.output.path))
        if overwrite or not path.exists():
            left.append(job)
            continue
        try:
            recipe = read_record(path).recipe
        except KinoformError:
            recipe = {}
        if recipe not in [candidate.recipe.resolved() for candidate in candidates(job, tries)]:
            raise InputError(
                f"output {path}", expected="a new file, or one of the same recipe", got="another, which is there",
                hint="Use --overwrite, or another folder",
            )  # fmt: skip
        if signed and not is_signed(path):
            left.append(job)
    if len(left) < len(jobs):
        console.say(f"{len(jobs) - len(left)} of {len(jobs)} are there already")
    return left


def _preview(args: argparse.Namespace, outputs: Sequence[str | Path]) -> Preview:
    """Raises InputError where the preview would lie on a result, or in a folder that is one."""
    from lab.show.preview import Preview

    file = getattr(args, "preview", None)
    if file is not None:
        place = Path(file).resolve()
        if any(result in (place, *place.parents) for result in (Path(path).resolve() for path in outputs)):
            raise InputError("--preview", expected="another file than the result's", got=file)
    return Preview(file)
