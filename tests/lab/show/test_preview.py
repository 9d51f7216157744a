"""Previews of real runs of a tiny model, in a file and in a pseudo-terminal."""

import os
import pty
import re
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from dreamfusion.recipe import AssetRecipe
from lab.jobs.events import Done, Stepped
from lab.jobs.run import Context, Job, run
from lab.kinds import Output
from lab.main import main
from lab.show.console import Console
from lab.show.preview import Preview
from shared.artifacts.media import read_image
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from shared.latents.preview import LatentPreview
from tests.lab.command import is_refusal
from tests.lab.show.test_terminal_picture import read_kitty
from video.recipe import ClipRecipe

SMALL = {"samples": 16, "coarse_render_size": 16, "render_size": 16, "field_resolution": 12, "mesh_resolution": 24}


def flat(value, height=4, width=6):
    return np.full((height, width, 3), value, np.uint8)


def image_job(model, path=None, **recipe):
    return Job(ImageRecipe(prompt="a red cube", model=str(model), steps=3, **recipe), Output(path))


class Terminal(threading.Thread):
    """Reads what is written to a pseudo-terminal."""

    def __init__(self, leader):
        super().__init__()
        self.leader, self.shown = leader, b""

    def run(self):
        with suppress(OSError):  # how a terminal without writers ends
            while part := os.read(self.leader, 65536):
                self.shown += part

    @property
    def text(self):
        return self.shown.decode("utf-8").replace("\r\n", "\n")


@contextmanager
def terminal(monkeypatch, **environ):
    leader, follower = pty.openpty()
    seen = Terminal(leader)
    seen.start()
    for name in ("NO_COLOR", "COLORTERM", "TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with os.fdopen(follower, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        yield seen
    seen.join()
    os.close(leader)


def test_nothing_is_made_that_nobody_sees():
    def never():
        raise AssertionError("asked for a picture")

    preview = Preview()
    assert preview.update(never) is None
    preview.finished(never)
    assert preview.closing(never) == ""


def test_the_file_is_replaced_at_times_and_at_the_end(tmp_path):
    path = tmp_path / "new" / "now.png"
    preview = Preview(str(path), seconds=1000)
    preview.update(lambda: flat(10))
    first = path.read_bytes()
    assert np.array_equal(read_image(path), flat(10, 4 * 43, 6 * 43))  # at least 256 wide
    kept = path.open("rb")  # an editor that has it open
    preview.update(lambda: flat(20))
    assert path.read_bytes() == first
    preview.finished(lambda: [flat(30), flat(40)])
    assert np.array_equal(read_image(path)[::100, ::140, 0], [[30, 40]])
    assert kept.read() == first
    kept.close()
    assert list(path.parent.iterdir()) == [path]


def test_events_carry_what_the_network_takes_the_result_to_be(model):
    context = Context("cpu", batch=2)
    jobs = [image_job(model, seed=0), image_job(model, seed=1)]
    pictures = [event.preview() for event in run(jobs, context) if isinstance(event, Stepped)]
    loaded = context.models.get(jobs[0].kind, jobs[0].recipe, "cpu")
    states = list(jobs[0].kind.sample(loaded, [job.recipe for job in jobs], "cpu"))
    show = LatentPreview(loaded.codec)
    for picture, state in zip(pictures, states, strict=True):
        assert np.array_equal(picture, np.concatenate([show.frames(x0)[0] for x0 in state.x0], axis=1))
    assert not np.array_equal(pictures[0], pictures[1])


def test_clips_show_eight_frames_and_assets_their_renders(model):
    clip = Job(ClipRecipe(prompt="a red ball", model=str(model), steps=1, frames=10))
    asset = Job(AssetRecipe(prompt="a red ball", model=str(model), steps=1, **SMALL))
    for job, shape in ((clip, (64, 128, 3)), (asset, None)):
        stepped = next(event for event in run([job], Context("cpu")) if isinstance(event, Stepped))
        picture = stepped.preview()
        assert picture.dtype == np.uint8
        assert picture.std() > 0
        assert shape is None or picture.shape == shape


def test_the_command_writes_the_file_and_the_result_is_the_same(model, tmp_path):
    asked = ["image", "a red cube", "--model", str(model), "--steps", "2", "-o"]
    assert main([*asked, str(tmp_path / "a.png")]) == 0
    assert main([*asked, str(tmp_path / "b.png"), "--preview", str(tmp_path / "now.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    made = read_image(tmp_path / "a.png")
    scale = 256 // made.shape[1]
    assert np.array_equal(read_image(tmp_path / "now.png"), made.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize(
    ("asked", "file", "part"),
    [
        (["image", "a cube", "-o", "a.png"], "now.jpg", ".png"),
        (["image", "a cube", "-o", "a.png"], "./a.png", "another file"),
        (["image", "a cube", "--count", "2", "-o", "out/"], "out/contact-sheet.png", "another file"),
        (["clip", "a cube", "-o", "frames"], "frames/now.png", "another file"),
    ],
)
def test_files_that_cannot_be_are_refused_before_work(tmp_path, monkeypatch, capsys, asked, file, part):
    monkeypatch.chdir(tmp_path)
    code = main([*asked, "--preview", file])
    assert is_refusal(code, capsys.readouterr().err, part)
    assert not list(tmp_path.iterdir())


def test_a_terminal_shows_it_below_the_bar(model, monkeypatch):
    with terminal(monkeypatch, TERM="xterm-256color", COLORTERM="truecolor") as seen:
        (ended,) = Console().watch(run([image_job(model)], Context("cpu")), 1, Preview(seconds=0))
    assert isinstance(ended, Done)
    assert re.search(r"3/3[^\n]*\n\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m▀", seen.text)


def test_a_terminal_without_colours_shows_none(model, monkeypatch):
    with terminal(monkeypatch, TERM="xterm-256color", NO_COLOR="1") as seen:
        (_,) = Console().watch(run([image_job(model)], Context("cpu")), 1, Preview(seconds=0))
    assert "▀" not in seen.text
    assert "3/3" in seen.text


def test_a_terminal_with_pixels_shows_the_result(model, monkeypatch):
    with terminal(monkeypatch, TERM="xterm-kitty", COLORTERM="truecolor") as seen:
        (ended,) = Console().watch(run([image_job(model)], Context("cpu")), 1, Preview())
    shown, _, _ = read_kitty(seen.text)
    scale = shown.shape[1] // ended.result.pixels.shape[1]
    assert np.array_equal(shown, ended.result.pixels.repeat(scale, 0).repeat(scale, 1))


def test_a_preview_that_fails_is_a_warning_and_the_result_is_there(model, tmp_path, capsys):
    class Broken(Preview):
        def update(self, picture):
            raise InputError("output", expected="a place that may be written to", got="now.png")

    console, path = Console(), tmp_path / "a.png"
    (ended,) = console.watch(run([image_job(model, str(path))], Context("cpu")), 1, Broken())
    assert isinstance(ended, Done)
    assert path.exists()
    assert console.warnings[-1:] == ["no preview: output: expected a place that may be written to, got now.png"]
