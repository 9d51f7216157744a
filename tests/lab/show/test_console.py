"""What commands say, and where."""

import json
import os
import pty
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest
import torch

from lab.show.console import Console, peak_memory
from shared.errors import KinoformError


@dataclass
class State:
    step: int
    total: int


@dataclass
class TrainState(State):
    loss: float
    lr: float


def test_progress_is_plain_lines_off_a_terminal(capsys):
    last = Console().follow("sample", (State(i, 1000) for i in range(1, 1001)))
    out, err = capsys.readouterr()
    assert last == State(1000, 1000)
    assert out == ""
    assert err.splitlines() == ["kinoform: sample: 1/1000", "kinoform: sample: 1000/1000"]


def test_a_line_every_so_often(capsys):
    def slow():
        for i in range(1, 5):
            time.sleep(0.02)
            yield TrainState(i, 4, 0.123456, 1e-3)

    Console().follow("train", slow(), every=0.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "kinoform: train: 2/4 loss 0.1235 lr 1.00e-03"
    assert len(lines) == 4


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        Console().follow("sample", (State(i, 3) for i in (1, 2, 3)))
    shown = b""
    with suppress(OSError):  # how a terminal without writers ends
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    assert b"3/3" in shown
    assert "━".encode() in shown
    assert b"kinoform: sample" not in shown


def test_a_loop_without_steps_is_an_error():
    with pytest.raises(KinoformError, match="train: expected steps to do, got none"):
        Console().follow("train", iter(()))


def test_the_result_for_people(capsys):
    Console().result(["wrote out.mp4"], outputs=["out.mp4"])
    assert capsys.readouterr().out == "wrote out.mp4\n"


def test_the_result_as_json_is_one_line_with_times_memory_and_warnings(capsys, tmp_path):
    console = Console(as_json=True)
    console.warn("careful")
    with console.timed("load"):
        time.sleep(0.01)
    console.result(["wrote out.mp4"], outputs=[tmp_path / "out.mp4"], seed=7, score=torch.tensor(0.5))
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert out.count("\n") == 1
    assert result["outputs"] == [str(tmp_path / "out.mp4")]
    assert (result["seed"], result["score"], result["warnings"]) == (7, 0.5, ["careful"])
    assert 0.01 <= result["seconds"]["load"] <= result["seconds"]["total"]
    assert err == "kinoform: warning: careful\n"


def test_times_of_one_name_add_up():
    console = Console()
    for _ in range(2):
        with console.timed("write"):
            time.sleep(0.02)
    assert 0.04 <= console.seconds["write"] < 1


def test_peak_memory_counts_bytes():
    before = peak_memory()["peak_memory_bytes"]
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert peak_memory()["peak_memory_bytes"] >= before
    assert peak_memory()["peak_memory_bytes"] > block.numel()
