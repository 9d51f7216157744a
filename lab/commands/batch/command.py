"""`kinoform batch run | watch | status | cancel | pause | resume | retry | export | check | schema`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from lab.flags import Parser, add_command, add_device_flag, add_sign_flag


def add_parser(commands: Any, name: str, help: str) -> None:
    batch = commands.add_parser(name, help=help, description=help)
    actions = batch.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    examples = (
        "kinoform batch run prompts.txt --out night/ --set kind=image",
        "kinoform batch run jobs.yaml --out night/",
    )
    help = "Make what a manifest asks for; the same command again does the rest."
    parser = add_command(actions, "run", partial(run, "run"), help, examples)
    parser.add_argument(
        "file", metavar="FILE", help=".yaml, .json, .jsonl, .txt with a prompt a line, or a folder of pictures"
    )
    _add_run_flags(parser)

    parser = add_command(
        actions, "watch", partial(run, "watch"), "Make what manifests in a folder ask for, as they come."
    )
    parser.add_argument("folder", metavar="FOLDER", help="where manifests are dropped")
    _add_run_flags(parser)

    parser = _about(actions, "status", "How a batch stands, also while it runs.")
    parser.add_argument("--live", action="store_true", default=False, help="go on saying so until it has ended")
    for action, text in (
        ("cancel", "Take tasks out; those under way stop within a step."),
        ("pause", "Begin no more tasks; those under way go on."),
        ("resume", "Go on after a pause."),
        ("retry", "Queue again what failed, was poisoned or cancelled."),
    ):
        parser = _about(actions, action, text)
        if action in ("cancel", "retry"):
            parser.add_argument("names", metavar="NAME", nargs="*", default=[], help="ids, or tag:NAME (default: all)")
    parser = _about(actions, "export", "Tasks, outputs, seeds, scores and times as a table.")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help=".csv or .jsonl")

    parser = add_command(
        actions, "check", partial(run, "check"), "Read a manifest, and say what it takes; nothing is run."
    )
    parser.add_argument("file", metavar="FILE", help="as of `batch run`")
    _add_set_flag(parser)
    add_device_flag(parser)
    parser = add_command(actions, "schema", partial(run, "schema"), "The JSON Schema of manifests, for editors.")
    parser.add_argument("-o", "--output", metavar="FILE", default=None, help="a .json file (default: standard output)")


def _add_set_flag(parser: Parser) -> None:
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
        help="a default of all jobs, such as kind=image or steps=20; may be given again",
    )  # fmt: skip


def _add_run_flags(parser: Parser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", required=True,
        help="the folder of the batch, or a URL that results are copied to, such as s3://bucket/night (fsspec)",
    )  # fmt: skip
    parser.add_argument("--ledger", metavar="DIR", default=None, help="with a URL: the folder of the batch itself")
    _add_set_flag(parser)
    parser.add_argument("--exact", action="store_true", default=False, help="each alone, not several in one batch")
    parser.add_argument(
        "--no-score", action="store_true", default=False, help="do not ask the model's CLIP about results"
    )
    add_sign_flag(parser)
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--executor", metavar="NAME", default="local",
        help="local: processes of this machine (default); ray: of a Ray cluster; slurm: jobs of a Slurm cluster",
    )  # fmt: skip
    group.add_argument(
        "--address", metavar="HOST:PORT", default=None,
        help="of the Ray cluster, or auto (default: one of this machine alone)",
    )  # fmt: skip
    group.add_argument(
        "--slurm", metavar="KEY=VALUE", action="append", default=[],
        help="what jobs ask Slurm for, such as partition=gpu or time=600; may be given again",
    )  # fmt: skip
    group.add_argument("--workers", metavar="N", default=None, help="processes (default: one a GPU, or one a core)")
    group.add_argument(
        "--threads", metavar="N", default=None, help="of each (default: the cores are divided among them)"
    )
    group.add_argument(
        "--memory", metavar="SIZE", default=None, help="that each may take at most, such as 4G (default: all)"
    )
    group.add_argument("--hang", metavar="SECONDS", default="1200", help="of silence until one is ended (default 1200)")
    add_device_flag(parser)


def _about(actions: Any, name: str, help: str) -> Parser:
    parser = add_command(actions, name, partial(run, name), help)
    parser.add_argument("folder", metavar="DIR", help="the folder of a batch")
    return parser


def run(action: str, args: argparse.Namespace) -> None:
    from lab.commands.batch.actions import ACTIONS  # inside, so that the help of every command answers at once

    ACTIONS[action](args)
