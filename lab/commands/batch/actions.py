"""What the actions of `kinoform batch` do."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.batch import requests
from lab.batch.executors import ray_cluster, slurm
from lab.batch.export import export
from lab.batch.ledger.reader import Reader
from lab.batch.ledger.states import State
from lab.batch.place import Place
from lab.batch.results.remote import Remote, is_url, local_folder
from lab.outputs import check_folder, existing_folder, parse_size, signer, whole_number
from lab.show.batch_status import lost, told
from lab.show.console import Console
from shared.artifacts.files import check_writable, write_bytes
from shared.errors import InputError

if TYPE_CHECKING:
    from lab.commands.batch.run import BatchOptions

LIVE_SECONDS = 1.0
EXECUTORS = ("local", "ray", "slurm")


def _run(args: argparse.Namespace) -> None:
    from lab.commands.batch.run import run_batch

    run_batch(Path(args.file), _out(args), _options(args), Console(as_json=args.json))


def _watch(args: argparse.Namespace) -> None:
    from lab.commands.batch.run import watch_folder

    folder = existing_folder("FOLDER", args.folder)
    watch_folder(folder, _out(args), _options(args), Console(as_json=args.json))


def _out(args: argparse.Namespace) -> Place:
    """The batch's own folder."""
    if is_url(args.out):
        return Place(check_folder("--ledger", args.ledger or str(local_folder(args.out))).resolve())
    if args.ledger is not None:
        raise InputError("--ledger", expected="a URL as --out", got=args.out, hint="A folder has its ledger in itself")
    return Place(check_folder("--out", args.out).resolve())


def _options(args: argparse.Namespace) -> BatchOptions:
    from lab.commands.batch.run import BatchOptions
    from lab.commands.batch.workers import WorkerOptions

    if args.executor not in EXECUTORS:
        raise InputError("--executor", expected=" or ".join(EXECUTORS), got=args.executor)
    if args.address is not None and args.executor != "ray":
        raise InputError("--address", expected="--executor ray with it", got=f"--executor {args.executor}")
    if args.slurm and args.executor != "slurm":
        raise InputError("--slurm", expected="--executor slurm with it", got=f"--executor {args.executor}")
    if args.executor == "ray":
        ray_cluster.check(args.address)
    if args.executor == "slurm":
        slurm.check()
    workers = WorkerOptions(
        executor=args.executor,
        address=args.address,
        slurm=_parameters(args.slurm),
        device=device.check(args.device),
        count=None if args.workers is None else whole_number("--workers", args.workers, 1, 1024),
        threads=None if args.threads is None else whole_number("--threads", args.threads, 1, 1024),
        memory=0 if args.memory is None else parse_size(args.memory),
    )
    return BatchOptions(
        settings=settings(args.settings),
        exact=args.exact,
        score=not args.no_score,
        signer=signer(args),
        remote=_remote(args.out),
        hang=whole_number("--hang", args.hang, 1, 10**7),
        workers=workers,
    )


def _remote(out: str) -> Remote | None:
    """Where results are copied to, by `--out`; tried, before any work."""
    if not is_url(out):
        return None
    found = Remote.open(out)
    found.check()
    return found


def settings(given: list[str]) -> dict[str, Any]:
    """KEY=VALUE as defaults of a manifest."""
    values: dict[str, Any] = {}
    for text in given:
        key, value = _pair("--set", text, "steps=20")
        values[key] = [tag.strip() for tag in value.split(",")] if key == "tags" else value
    return values


def _parameters(given: list[str]) -> dict[str, Any]:
    """What jobs ask Slurm for; submitit counts with the numbers among them."""
    pairs = dict(_pair("--slurm", text, "partition=gpu") for text in given)
    return {key: int(value) if value.isdecimal() else value for key, value in pairs.items()}


def _pair(flag: str, text: str, example: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise InputError(flag, expected=f"KEY=VALUE, such as {example}", got=text)
    return key, value


def _place(args: argparse.Namespace) -> Place:
    folder = str(local_folder(args.folder)) if is_url(args.folder) else args.folder
    return Place(existing_folder("DIR", folder).resolve())


def _status(args: argparse.Namespace) -> None:
    console = Console(as_json=args.json)
    place = _place(args)
    with closing(Reader.open(place.ledger)) as ledger:
        for line in _live(place, ledger) if args.live else ():
            console.say(line)
        counts, headed, paused = ledger.counts(), place.is_headed(), ledger.paused
        running = [
            f"{row.id}{'' if row.share is None else f' {row.share:.0%}'} ({row.worker})"
            for row in ledger.each(State.RUNNING)
        ]
        failures = list(lost(ledger, shlex.quote(args.folder)))
        head = f"head: {place.holder()}" if headed else "no head: the command that began it, again, goes on"
        lines = [told(counts), *(["paused: kinoform batch resume " + shlex.quote(args.folder)] if paused else []), head]
        lines += [*(f"running: {each}" for each in running), *failures]
        console.result(
            lines, counts={state.value: n for state, n in counts.items()}, headed=headed, paused=paused,
            running=running, failures=failures,
        )  # fmt: skip


def _live(place: Place, ledger: Reader) -> Iterator[str]:
    """A line whenever something has changed, until the batch has no head."""
    said = None
    while place.is_headed():
        line = told(ledger.counts())
        if line != said:
            yield line
        said = line
        time.sleep(LIVE_SECONDS)


def _ask(action: requests.Action, args: argparse.Namespace) -> None:
    console = Console(as_json=args.json)
    place = _place(args)
    names = tuple(getattr(args, "names", ()))
    tasks = requests.ask(place, requests.Request(action, names)).tasks
    said = {"cancel": "cancelled", "retry": "queued again"}
    line = {"pause": "paused", "resume": "going on"}.get(action) or f"{len(tasks)} {said[action]}"
    lines = [line]
    if action in ("retry", "resume") and not place.is_headed():
        lines.append(f"no head: kinoform batch run FILE --out {shlex.quote(args.folder)} goes on")
    console.result(lines, tasks=list(tasks))


def _export(args: argparse.Namespace) -> None:
    console = Console(as_json=args.json)
    with closing(Reader.open(_place(args).ledger)) as ledger:
        count = export(ledger, Path(args.output))
    console.result([f"wrote {count} tasks to {args.output}"], outputs=[args.output], count=count)


def _check(args: argparse.Namespace) -> None:
    from lab.batch.foresee import foresee
    from lab.batch.manifest import read_manifest

    console = Console(as_json=args.json)
    tasks = read_manifest(Path(args.file), defaults=settings(args.settings))
    seen = foresee(tasks, device.check(args.device))
    console.result(seen.lines(), **seen.facts())


def _schema(args: argparse.Namespace) -> None:
    from lab.batch.manifest import manifest_schema

    text = json.dumps(manifest_schema(), indent=1, ensure_ascii=False)
    console = Console(as_json=args.json)
    if args.output is None:
        console.result([text], schema=json.loads(text))
        return
    write_bytes(check_writable(args.output, (".json",)), text.encode() + b"\n")
    console.result([f"wrote {args.output}"], outputs=[args.output])


ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run, "watch": _watch, "status": _status, "export": _export, "check": _check, "schema": _schema,
    "cancel": partial(_ask, "cancel"), "pause": partial(_ask, "pause"), "resume": partial(_ask, "resume"),
    "retry": partial(_ask, "retry"),
}  # fmt: skip
