"""Ctrl-C and SIGTERM: an interrupt that code can clean up after and, where no code gets to run, an end at once."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # exit code
NOTICE = 2.0  # seconds until a signal that no code has taken yet is answered
NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(signals: list[int]) -> Iterator[None]:
    """SIGINT and SIGTERM raise `KeyboardInterrupt` and are noted in `signals`: code below may turn it into another
    error (an import that was cut short), and the command was interrupted all the same.

    Python takes signals between its own steps only. One torch call can take minutes, so a thread watches: a first
    signal that waits for `NOTICE` seconds is answered by a line, a second one then ends the process. Nothing is half
    published by that: files appear by renaming.
    """

    def interrupt(number: int, _frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in NUMBERS}
    arrived, wake = socket.socketpair()
    wake.setblocking(False)
    wakeup = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(arrived, signals), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        wake.close()  # which ends the thread
        watch.join()
        arrived.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(arrived: socket.socket, signals: list[int]) -> None:
    """Read the signals' numbers as they come; the first stays untaken for as long as `signals` is empty."""
    told = False
    while number := arrived.recv(1):
        if signals or number[0] not in NUMBERS:
            continue
        if told:
            os._exit(INTERRUPTED)
        arrived.settimeout(NOTICE)
        with suppress(TimeoutError):
            arrived.recv(1, socket.MSG_PEEK)
        arrived.settimeout(None)
        if not signals:
            told = True
            line = "kinoform: interrupted: stopping after the step at hand; once more stops at once"
            print(line, file=sys.stderr, flush=True)


@contextmanager
def collected() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted in the list that it gives, and raise nothing: for a loop that looks between its
    steps and never waits for long. Inside `interruptible`, whose own answer comes back at the end.
    """
    signals: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: signals.append(number)) for number in NUMBERS}
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number, handler in before.items():
            signal.signal(number, handler)
