"""Compiles the temporal attention kernels ahead of time, for GPUs that need not be here, and shows what they use.

    python -m benchmarks.attention_compile [--capability 80 90 100] [--dtype float16 bfloat16 float32]

For every padded shape (frames, channels a head), dtype and generation: registers a thread, bytes spilled to local
memory (there should be none: a spilled register is memory traffic in a kernel that is bound by memory), and shared
memory. Exits with 1 where a kernel spills. Fresh processes compile, so that TRITON_INTERPRET, which replaces the
compiler, may be set in this one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

CAPABILITIES = (80, 90, 100)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SHAPES = tuple(product((16, 32, 64), (16, 32, 64, 128, 256)))  # all that frames and channels can be padded to
POINTERS = {torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32"}


class Compiled(NamedTuple):
    """One kernel for one shape: registers a thread, spilled bytes a thread, shared memory in bytes a program."""

    capability: int
    dtype: torch.dtype
    frames: int
    dim: int
    kernel: str
    registers: int
    spills: int
    shared: int

    def line(self) -> str:
        shape = f"{self.frames:3} frames {self.dim:4} channels"
        name = f"sm_{self.capability} {str(self.dtype).removeprefix('torch.'):9} {shape} {self.kernel:9}"
        return f"{name} {self.registers:4} registers {self.spills:6} B spilled {self.shared / 1024:7.1f} KiB shared"


def compile_all(
    capabilities: Sequence[int] = CAPABILITIES,
    dtypes: Sequence[torch.dtype] = DTYPES,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    processes: int = 2,
) -> Iterator[Compiled]:
    """Forward and backward of every combination, in order."""
    jobs = list(product(capabilities, dtypes, shapes, ("forward", "backward")))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_real_compiler) as pool:
        yield from pool.map(_compile, jobs)


def _real_compiler() -> None:
    """In a fresh process, before Triton is imported there."""
    os.environ.pop("TRITON_INTERPRET", None)


def _compile(job: tuple[int, torch.dtype, tuple[int, int], str]) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from shared.attention.kernels import temporal_triton as kernels

    capability, dtype, (frames, dim), name = job
    kernel = kernels.forward if name == "forward" else kernels.backward
    constants = kernels.tiles(frames, frames, dim, dim, dtype)
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    constants |= {"HAS_BIAS": True} | ({"BIAS_GRADIENT": True} if name == "backward" else {})
    signature: dict[str, str] = {}
    aligned: dict[tuple[int], list[Any]] = {}
    for i, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            continue
        if argument.endswith("_at"):
            signature[argument] = "*fp32" if "bias" in argument else POINTERS[dtype]
        else:
            signature[argument] = "fp32" if argument == "scale" else "i32"
        if argument.endswith(("_at", "_b", "_t", "_s")):  # as the launcher finds out by itself
            aligned[(i,)] = [["tt.divisibility", 16]]
    places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    source = ASTSource(kernel, signature, constexprs=places, attrs=aligned)
    target = GPUTarget("cuda", capability, 32)
    binary = triton.compile(source, target=target, options=options)
    registers, spills = _registers(Path(triton.__file__).parent, binary.asm["ptx"], capability)
    return Compiled(capability, dtype, frames, dim, name, registers, spills, binary.metadata.shared)


def _registers(triton_folder: Path, ptx: str, capability: int) -> tuple[int, int]:
    """Registers and spilled bytes (stores and loads) that the assembler reports."""
    programs = triton_folder / "backends" / "nvidia" / "bin"
    assembler = programs / "ptxas-blackwell"
    if not assembler.exists():
        assembler = programs / "ptxas"
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert target is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        command = [assembler, "-v", f"--gpu-name={target[1]}", file, "-o", f"{file}.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    used = re.search(r"Used (\d+) registers", report)
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", report)
    if used is None or not spilled:
        raise RuntimeError(f"sm_{capability}: no registers in what the assembler says: {report[-300:]}")
    return int(used[1]), sum(map(int, spilled))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capability", type=int, nargs="+", default=CAPABILITIES)
    parser.add_argument("--dtype", nargs="+", default=[str(d).removeprefix("torch.") for d in DTYPES])
    arguments = parser.parse_args()
    spilling = 0
    for compiled in compile_all(arguments.capability, [getattr(torch, name) for name in arguments.dtype]):
        print(compiled.line(), flush=True)
        spilling += compiled.spills > 0
    print(f"{spilling} kernels spill")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
