"""How far a loop is: plain lines, and a bar in a real pseudo-terminal."""

import os
import pty
import re
import time

import pytest

from lab.show.progress import Bar, Lines, meter
from tests.lab.show.test_preview import terminal

HOSTILE = "wrote \x1b]0;mine\x07[bold]a[/bold].png"


def test_plain_lines_are_the_first_the_last_and_one_now_and_then(capsys):
    with Lines(every=0.05) as shown:
        for step in range(1, 1001):
            if step == 500:
                time.sleep(0.06)
            shown.show("sample 1 of 2", step, 1000, " loss 0.5")
        shown.show("sample 2 of 2", 1, 1000)
        shown.show("sample 2 of 2", 2, 1000)
    out, err = capsys.readouterr()
    first, *others, last, another = err.splitlines()
    assert first == "kinoform: sample 1 of 2: 1/1000 loss 0.5"
    assert "kinoform: sample 1 of 2: 500/1000 loss 0.5" in others
    assert len(others) < 10
    assert last == "kinoform: sample 1 of 2: 1000/1000 loss 0.5"
    assert another == "kinoform: sample 2 of 2: 1/1000"
    assert out == ""


def test_lines_between_go_where_they_belong_and_steer_nothing(capsys):
    with Lines(every=0) as shown:
        shown.say("kinoform: careful")
        shown.say(HOSTILE, result=True)
        assert shown.picture(None) is None
    assert capsys.readouterr() == ("wrote \\x1b]0;mine\\x07[bold]a[/bold].png\n", "kinoform: careful\n")


def test_it_is_a_bar_on_a_terminal_only(monkeypatch):
    assert isinstance(meter(3), Lines)
    with terminal(monkeypatch, TERM="xterm-256color"):
        assert isinstance(meter(), Bar)


def test_a_bar_shows_how_far_how_fast_and_how_long(monkeypatch):
    with terminal(monkeypatch, TERM="xterm-256color", COLUMNS="120") as seen, Bar() as bar:
        for name, steps, seconds in (("sample 1 of 2", 12, 0.01), ("sample 2 of 2", 3, 0)):
            for step in range(1, steps + 1):
                time.sleep(seconds)
                bar.show(name, step, steps, " [loss] 0.5")
            bar._live.refresh()
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen.text)
    (first,) = {line for line in text.splitlines() if "12/12" in line} or {""}
    assert first.startswith("sample 1 of 2 [loss] 0.5 ━")
    assert re.search(r"12/12 \d+\.\d/s 0:00:00", first), first
    assert re.search(r"sample 2 of 2 \[loss\] 0\.5 ━+ 3/3", text)


def test_a_slow_bar_says_seconds_a_step(monkeypatch):
    now = [0.0]
    with terminal(monkeypatch, TERM="xterm-256color", COLUMNS="120") as seen, Bar() as bar:
        bar._bar.get_time = bar._bar.tasks[0]._get_time = lambda: now[0]  # a clock that this test turns
        for step in range(1, 4):
            now[0] += 2.5
            bar.show("distill", step, 9)
        bar._live.refresh()
    assert "3/9 2.5 s each 0:00:15" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen.text)


@pytest.mark.parametrize("piped", [True, False])
def test_results_go_to_standard_output_and_are_never_lost_in_the_bar(monkeypatch, capfd, piped):
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stdout, monkeypatch.context() as patch:
        if not piped:
            patch.setattr("sys.stdout", stdout)
        with terminal(monkeypatch, TERM="xterm-256color", COLUMNS="120") as seen, Bar() as bar:
            bar.show("sample", 1, 2)
            bar.say(HOSTILE, result=True)
            bar.say("kinoform: [red]careful[/red]")
    os.close(leader)
    line = "wrote \\x1b]0;mine\\x07[bold]a[/bold].png"
    assert (line in seen.text) != piped
    assert (capfd.readouterr().out == f"{line}\n") == piped
    assert "kinoform: [red]careful[/red]" in seen.text
    assert "\x1b]0;" not in seen.text
