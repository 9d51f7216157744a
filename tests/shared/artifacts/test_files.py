import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from shared.artifacts.files import atomic_folder, atomic_path, check_writable, replaced_folder, sha256, write_bytes
from shared.errors import InputError, KinoformError, OutputError

ROOT = Path(__file__).resolve().parents[3]


OWNED = ("about.json", "*.png")


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_the_file_is_there_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    with atomic_path(target) as temporary:
        assert temporary.name == "clip.mp4"  # writers choose their format by it, and some write it into the file
        assert temporary.parent.parent.parent == tmp_path  # on the same disk
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), InputError("x"), SystemExit(1)])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "\N{DUCK}" * 62 + ".mp4", ".mp4.mp4", "a b'\"$.mp4"])
def test_any_name_that_the_disk_allows_is_allowed(tmp_path: Path, name: str) -> None:
    write_bytes(check_writable(tmp_path / name, (".mp4",)), b"x")
    assert names(tmp_path) == [name]


def test_a_real_interrupt_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time\nfrom shared.artifacts.files import atomic_path\n"
        # A process started in the background inherits an ignored SIGINT; a signal that comes just before a sleep is
        # heard after it, so the sleeps are short.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n    print('ready', flush=True)\n"
        "    while True:\n        time.sleep(0.01)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "a.png")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(names(tmp_path)) == 1
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.returncode != 0
    assert names(tmp_path) == []


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "real" / "a.png")
    write_bytes(link, b"x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.png").read_bytes() == b"x"


def test_a_full_disk_is_one_error_and_no_file(tmp_path: Path) -> None:
    """/dev/full is a real device whose every write is refused with ENOSPC."""
    with pytest.raises(OutputError, match="disk is full") as caught, atomic_path(tmp_path / "a.mp4") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 10_000)
    assert caught.value.exit_code == 1
    assert names(tmp_path) == []


LIMITED = """
import resource, sys
from shared.errors import KinoformError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    {body}
except KinoformError as error:
    print(type(error).__name__, error.exit_code, error)
"""


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.bin", "from shared.artifacts.files import write_bytes; write_bytes(path, bytes(200_000))"),
        ("a.mp4", "write_clip(path, noise, 8)"),
        ("a.webm", "write_clip(path, noise, 8)"),
        ("a.gif", "write_clip(path, noise, 8)"),
        ("frames/", "write_clip(path, noise, 8)"),
        ("a.png", "write_image(path, noise[0])"),
    ],
)
def test_no_room_for_the_file_is_one_error_and_no_file(tmp_path: Path, name: str, body: str) -> None:
    """A process that may write no file above 10 kB: the kernel cuts the write short, as a full disk does."""
    lines = [
        "import numpy as np",
        "from shared.artifacts.media import write_clip, write_image",
        f"path = {str(tmp_path)!r} + '/{name}'",
        "noise = np.random.default_rng(0).integers(0, 255, (8, 128, 128, 3), dtype=np.uint8)",
        body,
    ]
    program = LIMITED.format(body="\n    ".join(lines))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("OutputError 1 cannot write"), done.stdout + done.stderr
    assert "disk is full" in done.stdout
    assert names(tmp_path) == []


def test_the_limit_of_that_test_lets_small_files_through(tmp_path: Path) -> None:
    body = f"from shared.artifacts.files import write_bytes; write_bytes({str(tmp_path / 'a')!r}, b'x')"
    done = subprocess.run([sys.executable, "-c", LIMITED.format(body=body)], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, names(tmp_path)) == ("", ["a"]), done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: folder / "file" / "a.mp4", "folders all the way, not a file among them"),
        (lambda folder: folder / "file" / "b" / "a.mp4", "folders all the way, not a file among them"),
        (lambda folder: folder / "a.avi", "a name ending in .gif, .mp4"),
        (lambda folder: folder / "a", "a name ending in .gif, .mp4"),
        (lambda folder: folder / "folder.mp4", "a file name, not a folder"),
        (lambda folder: folder / "device.mp4", "a file name, not a device"),
        (lambda folder: folder / ("x" * 300 + ".mp4"), "a shorter file name"),
        (lambda folder: folder / "circle.mp4", "a path without a circle of links"),
        (lambda folder: "", "a file name"),
        (lambda folder: "a\0.mp4", "a file name"),
        (lambda folder: "/proc/a.mp4", "a place that may be written to"),
        (lambda folder: f"{folder}/b.mp4/", "a name ending in .gif, .mp4"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, make, expected: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "device.mp4").symlink_to("/dev/null")
    (tmp_path / "circle.mp4").symlink_to(tmp_path / "circle.mp4")
    before = names(tmp_path)
    with pytest.raises(InputError) as caught:
        check_writable(make(tmp_path), (".mp4", ".gif"))
    assert caught.value.expected == expected
    assert names(tmp_path) == before


def test_the_right_to_write_is_tried() -> None:
    """As a user without the right, in a process of its own: root could write anywhere."""
    program = (
        "import os, sys\nfrom shared.errors import KinoformError\n"
        "from shared.artifacts.files import check_writable, write_bytes\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "for call in (lambda p: check_writable(p, ('.mp4',)), lambda p: write_bytes(p, b'x')):\n"
        "    try: call(sys.argv[1]); print('written')\n"
        "    except KinoformError as error: print(error.exit_code, error.expected)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: other users cannot enter that
        Path(folder).chmod(0o555)
        arguments = [sys.executable, "-c", program, f"{folder}/a.mp4"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["2 a place that may be written to"] * 2, done.stderr


def test_check_writable_leaves_no_trace_and_gives_the_path_back(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")
    for name in ("new.mp4", "NEW.MP4", "old.mp4"):
        assert check_writable(tmp_path / name, (".mp4",)) == tmp_path / name
    assert check_writable(f"{tmp_path}/frames/", (".mp4", "")) == tmp_path / "frames"
    assert check_writable(tmp_path / "frames", ("",)) == tmp_path / "frames"
    assert names(tmp_path) == ["old.mp4"]


def test_folders_above_an_output_are_made_when_it_is_written_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "no" / "such" / "a.mp4"
    assert check_writable(target, (".mp4",)) == target
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError), atomic_path(target):
        raise RuntimeError
    assert names(tmp_path) == []
    write_bytes(target, b"x")
    assert target.read_bytes() == b"x"
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "no" / "more" / "b.mp4"):
        raise RuntimeError
    assert names(tmp_path / "no") == ["such"]
    for folder in (atomic_folder(tmp_path / "c" / "frames", owned=OWNED), replaced_folder(tmp_path / "d" / "unet")):
        with folder as new:
            (new / "about.json").write_text("")
    assert names(tmp_path / "c" / "frames") == names(tmp_path / "d" / "unet") == ["about.json"]


def test_a_file_among_the_folders_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(InputError, match="not a file among them"):
            write_bytes(target, b"x")
        with pytest.raises(InputError, match="not a file among them"), replaced_folder(target):
            pass
    with pytest.raises(InputError, match="a file name that this disk allows"):
        write_bytes(f"{tmp_path}/a\0b", b"x")
    assert names(tmp_path) == ["file"]


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    """As root, a rename onto /dev/null would succeed, and break the machine."""
    link = tmp_path / "a.mp4"
    link.symlink_to("/dev/null")
    with pytest.raises(InputError, match="not a folder or device"):
        write_bytes(link, b"x")
    assert not Path("/dev/null").is_file()


def test_a_folder_replaces_an_earlier_output_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "frames"
    for text in ("one", "two"):
        with atomic_folder(target, owned=OWNED) as temporary:
            (temporary / "about.json").write_text(text)
            (temporary / f"{text}.png").write_text(text)
    assert names(target) == ["about.json", "two.png"]
    (target / "notes.txt").write_text("x")  # somebody's own file in an earlier output
    with pytest.raises(InputError, match="a new or empty folder"), atomic_folder(target, owned=OWNED):
        pass
    assert names(target) == ["about.json", "notes.txt", "two.png"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="a new or empty folder"), atomic_folder(tmp_path / "mine", owned=OWNED):
        pass
    assert names(tmp_path) == ["frames", "mine"]
    assert names(tmp_path / "mine") == ["thesis.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "frames"
    with atomic_folder(target, owned=("a", "b*")) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(type(failure)), atomic_folder(target, owned=("a", "b*")) as temporary:
        (temporary / "a").write_text("new")
        raise failure
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["frames"]


def test_a_replaced_folder_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "unet"
    for text in ("old", "cut short", "new"):
        with suppress(RuntimeError), replaced_folder(target) as new:
            (new / text).write_text(text)
            if text == "cut short":
                raise RuntimeError
        assert names(target) == ["new" if text == "new" else "old"]
        assert names(tmp_path) == ["unet"]


def test_torch_reports_a_full_disk_without_an_errno_and_is_understood(tmp_path: Path) -> None:
    """torch.save turns a short write into a RuntimeError; then the disk itself is asked. With room left, the same error
    goes on as it is."""
    with pytest.raises(RuntimeError) as caught, atomic_path(tmp_path / "a.pt") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        torch.save(torch.zeros(100_000), temporary)
    assert not isinstance(caught.value, KinoformError)
    assert names(tmp_path) == []


def test_safetensors_reports_a_full_disk_in_words_alone(tmp_path: Path) -> None:
    """Its error is no OSError and has no errno. The same program again, with room, writes the file."""
    body = (
        "import numpy; from safetensors.numpy import save_file; from shared.artifacts.files import atomic_path\n"
        f"    with atomic_path({str(tmp_path / 'a.safetensors')!r}) as temporary:\n"
        "        save_file({'a': numpy.zeros(SIZE)}, temporary)"
    )
    lines = []
    for size in ("100_000", "100"):
        program = LIMITED.format(body=body.replace("SIZE", size))
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
        lines.append((done.stdout[:31], names(tmp_path)))
    assert lines == [("OutputError 1 cannot write " + str(tmp_path)[:4], []), ("", ["a.safetensors"])], done.stderr


def test_sha256_is_of_the_bytes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(range(256)) * 9000)  # more than one block
    assert sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()
