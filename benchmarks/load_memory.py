"""How much memory loading a model takes, in sizes of what is loaded: a process of its own for each precision.

python -m benchmarks.load_memory MODEL [--json]

MODEL: whatever `--model` takes. The figure is the most memory held while loading, less what the libraries held before,
over the bytes of the networks. Linux alone tells it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Row, as_json, table
from benchmarks.speed import machine

AIM = 1.15
PRECISIONS = ("float32", "float16", "bfloat16")


def measure(model: str, precision: str) -> float:
    """In this process: once a process."""
    import torch

    from shared.compute.process_memory import peak_bytes, resident_bytes
    from shared.models.image_model import load_image_model

    Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak
    before = resident_bytes() or 0
    loaded = load_image_model(model, dtype=getattr(torch, precision))
    networks = loaded.unet, loaded.codec.vae, loaded.text.text_encoder
    size = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    return ((peak_bytes() or 0) - before) / size


def in_a_process(model: str, precision: str) -> float:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.load_memory", model, "--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{precision} failed ({done.returncode}):\n{done.stderr}")
    return float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_memory", description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.precision:
        print(measure(args.model, args.precision))
        return 0
    rows = []
    for precision in PRECISIONS:
        value = in_a_process(args.model, precision)
        rows.append(Row(f"memory to load in {precision}, in sizes of it", value, 1, value, value, AIM, at_most=True))
    print(as_json(rows, machine=machine()) if args.json else table(rows))
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
