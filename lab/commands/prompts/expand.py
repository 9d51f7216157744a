"""`kinoform prompt expand`: a prompt that says more, by rules or by a program of the user's."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from typing import Any

from lab.flags import add_command
from lab.outputs import whole_number
from lab.show.console import Console
from shared.errors import InputError, KinoformError
from shared.models.prompts.expand import checked, expand

KINDS = ("image", "clip", "asset")
EXAMPLES = (
    'kinoform prompt expand "a red cube"',
    'kinoform image "$(kinoform prompt expand "a red cube" --seed 2)"',
    'kinoform prompt expand "a red cube" --command "python rewrite.py --short"',
)


def add_parser(commands: Any, name: str, help: str) -> None:
    prompt = commands.add_parser(name, help=help, description=help)
    actions = prompt.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    parser = add_command(actions, "expand", run, "Print the prompt with what it leaves open.", EXAMPLES)
    parser.add_argument("prompt", metavar="TEXT", help="the prompt, in quotes")
    parser.add_argument("--for", metavar="{" + ",".join(KINDS) + "}", dest="kind", default="image",
                        help="what is to be made of it (default image)")  # fmt: skip
    parser.add_argument("--seed", metavar="N", default="0", help="another seed draws other phrases (default 0)")
    parser.add_argument("--command", metavar="PROGRAM", dest="program",
                        help="a program in place of the rules: reads the prompt, prints the new one")  # fmt: skip
    parser.add_argument("--timeout", metavar="SECONDS", default="60", help="how long it may take (default 60)")


def run(args: argparse.Namespace) -> None:
    seed = whole_number("--seed", args.seed, 0, 2**63 - 1)
    timeout = whole_number("--timeout", args.timeout, 1, 3600)
    if args.kind not in KINDS:
        raise InputError("--for", expected=" or ".join(KINDS), got=args.kind)
    expanded = expand(args.prompt, args.kind, seed)  # refuses what is no prompt, whoever expands it
    program = getattr(args, "program", None)
    if program is not None:
        expanded = checked(rewritten(args.prompt, program, timeout))
    Console(as_json=args.json).result([expanded], prompt=expanded, seed=seed)


def rewritten(prompt: str, program: str, timeout: int) -> str:
    """What a program makes of a prompt, on one line. No shell runs it.

    Raises InputError for a program that is not there, KinoformError where it fails, takes too long or says nothing.
    """
    try:
        words = shlex.split(program)
        done = subprocess.run(words, input=prompt.encode(), capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise KinoformError(f"program {program}", expected=f"an answer within {timeout} s", got="none") from error
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("--command", expected="a program that runs", got=f"{program}: {reason}") from error
    said = " ".join(done.stdout.decode("utf-8", "replace").split())
    if done.returncode or not said:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()
        got = f"exit code {done.returncode}" + (f", {last[-1]}" if last else "")
        raise KinoformError(f"program {program}", expected="a prompt on its output", got=got)
    return said
