"""What a process holds: it grows with what it allocates, and is its own, not that of whoever started it."""

import json
import subprocess
import sys

from shared.compute.process_memory import STATUS, resident_bytes

MEGABYTE = 2**20
PEAK = "from shared.compute.process_memory import peak_bytes; print(peak_bytes())"
LINUX = STATUS.is_file()  # elsewhere no system says what a process holds now


# In a process of its own: one that has lived for long holds freed memory that a new block may reuse.
GROWTH = """
from shared.compute.process_memory import peak_bytes, resident_bytes
def held(): return [resident_bytes() or 0, peak_bytes()]
figures = [held()]
block = bytearray(b"x") * (64 * 2**20)
figures.append(held())
del block
print([*figures, held()])
"""


def run(code):
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_it_grows_with_what_is_allocated_and_the_peak_stays():
    (resident, peak), (resident_with, peak_with), (resident_after, peak_after) = run(GROWTH)
    assert peak_with - peak > 50 * MEGABYTE
    assert peak_after - peak > 50 * MEGABYTE
    assert (resident_bytes() is not None) == LINUX
    if LINUX:
        assert resident_with - resident > 50 * MEGABYTE
        assert resident_after - resident < 30 * MEGABYTE


def test_a_process_is_not_charged_for_the_one_that_started_it():
    block = bytearray(b"x") * (256 * MEGABYTE)
    child = run(PEAK)
    assert child > 4 * MEGABYTE
    assert child < 128 * MEGABYTE or not LINUX
    del block
