"""Pictures with records, which tools can take: batches without a model, for tests of what happens around the work."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from lab.batch.ledger.reader import Reader
from lab.results import Picture
from shared.artifacts.files import sha256
from shared.artifacts.run_record import RunRecord
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from tests.lab.command import command, environment


def picture(path, seed=0, size=16):
    """A picture as `kinoform image` writes them, of a model that is not here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    recipe = ImageRecipe(prompt=f"number {seed}", seed=seed, model="no-such-model").resolved()
    Picture(pixels, RunRecord.of_run("image", recipe, seed, "no-such-model", {})).save(path)
    return path


def manifest(folder, count=4, chain=True, **job):
    """A manifest of `count` pictures that are enlarged, each enlarged again and described unless `chain` is false."""
    then = [{"kind": "upscale", "then": [{"kind": "describe"}]}, {"kind": "describe"}] if chain else []
    jobs = [
        {"name": f"p{i}", "kind": "upscale", "source": str(picture(folder / f"in/{i}.png", i)), "then": then, **job}
        for i in range(count)
    ]
    path = folder / "jobs.json"
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    return path


def batch(*arguments, folder, **options):
    """`kinoform batch ...`, to its end."""
    return subprocess.run(
        command("batch", *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=250,
        **options,
    )


def start(*arguments, folder, **options):
    """`kinoform batch ...` in the background; what it says goes to a file."""
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            command("batch", *arguments), cwd=folder, env=environment(), stdout=said, stderr=said, **options
        )


def hashes(out):
    """sha256 of every result, by name."""
    results = Path(out) / "results"
    return {
        file.relative_to(results).as_posix(): sha256(file)
        for file in sorted(results.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }


def rows(out):
    """The ledger's tasks by id; none where there is no ledger yet."""
    try:
        ledger = Reader.open(Path(out) / "batch.sqlite")
    except InputError:
        return {}
    try:
        return {row.id: row for row in ledger.each()}
    finally:
        ledger.close()


def workers_of(pid):
    """Processes of workers whose head is `pid`."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "lab.batch.executors.worker" in line]


def wait_until(true, seconds=150.0):
    """Raises AssertionError where it does not get true in time."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
