"""What a process holds: it grows with what it allocates, and is its own, not that of whoever started it."""

import subprocess
import sys

from shared.process_memory import STATUS, peak_bytes, resident_bytes

MEGABYTE = 2**20
PEAK = "from shared.process_memory import peak_bytes; print(peak_bytes())"
LINUX = STATUS.is_file()  # elsewhere no system says what a process holds now


def test_it_grows_with_what_is_allocated_and_the_peak_stays():
    before = resident_bytes() if LINUX else peak_bytes()
    block = bytearray(b"x") * (64 * MEGABYTE)
    assert peak_bytes() - before > 50 * MEGABYTE
    assert (resident_bytes() is not None) == LINUX
    if LINUX:
        assert resident_bytes() - before > 50 * MEGABYTE
        del block
        assert resident_bytes() - before < 30 * MEGABYTE
        assert peak_bytes() - before > 50 * MEGABYTE


def test_a_process_is_not_charged_for_the_one_that_started_it():
    block = bytearray(b"x") * (256 * MEGABYTE)
    child = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(child.stdout) > 4 * MEGABYTE
    assert int(child.stdout) < 128 * MEGABYTE or not LINUX
    del block
