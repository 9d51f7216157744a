"""Writers that are killed or interrupted at every line they run: processes of their own, real signals, a real disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.artifacts.files import atomic_folder, atomic_path, replaced_folder, write_bytes

ROOT = Path(__file__).resolve().parents[3]
OWNED = ("about", "frame*")

# Forks a writer for N = 1, 2, ...; the Nth line of ours that the writer runs sends it a signal.
# Prints, for every N, how it ended and what is on the disk: at once, and after a next, undisturbed writer.
DRIVER = """
import json, os, signal, sys
from shared.artifacts import files
from shared.artifacts import staging
from pathlib import Path

folder, kind, number, exchange = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "exchange"
signal.signal(signal.SIGINT, signal.default_int_handler)
target = folder / "out"
WATCHED = {files.__file__, staging.__file__}

def refuse_exchange():
    '''A kernel that knows no renameat2, as a seccomp filter: ENOSYS for that call alone.'''
    import ctypes, platform, struct
    call = {"x86_64": 316, "aarch64": 276}[platform.machine()]
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()

def write(text):
    if kind == "file":
        with files.atomic_path(target) as new:
            new.write_text(text)
    else:
        owned = ("about", "frame*")
        with files.replaced_folder(target) if kind == "replaced" else files.atomic_folder(target, owned=owned) as new:
            (new / "about").write_text(text)
            (new / "frame0").write_text(text)

def state(path):
    if path.is_dir():
        return {f.name: f.read_text() for f in sorted(path.iterdir())}
    return path.read_text() if path.exists() else None

def disturbed(nth):
    count = 0
    def line(frame, event, _):
        nonlocal count
        if event == "line":
            count += 1
            if count == nth:
                os.kill(os.getpid(), number)
        return line
    sys.settrace(lambda frame, event, _: line if frame.f_code.co_filename in WATCHED else None)
    write("new")

if not exchange:
    refuse_exchange()
nth = 0
while True:
    nth += 1
    write("old")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            disturbed(nth)
            code = 0
        except KeyboardInterrupt:
            code = 130
        finally:
            sys.settrace(None)
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = state(target)
    hidden = sorted(f.name for f in folder.iterdir() if f != target)
    write("next")
    after = sorted(f.name for f in folder.iterdir())
    print(json.dumps([status, found, hidden, state(target), after]))
    if status == 0:
        break
"""


def whole(kind: str, text: str) -> object:
    return text if kind == "file" else {"about": text, "frame0": text}


def outcomes(folder: Path, kind: str, number: int, exchange: str = "exchange") -> list:
    arguments = [sys.executable, "-c", DRIVER, str(folder), kind, str(number), exchange]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["file", "atomic", "replaced"])
def test_killed_anywhere_the_old_or_the_new_is_there_and_the_next_writer_clears_up(tmp_path: Path, kind: str) -> None:
    seen = outcomes(tmp_path, kind, 9)
    assert len(seen) > 60
    assert {status for status, *_ in seen[:-1]} == {-9}
    left = 0
    for _, found, hidden, then, names in seen:
        assert found in (whole(kind, "old"), whole(kind, "new"))
        assert (then, names) == (whole(kind, "next"), ["out"])
        left += bool(hidden)
    assert left > 20  # so there was something to clear
    assert [found for _, found, *_ in seen[:1] + seen[-1:]] == [whole(kind, "old"), whole(kind, "new")]


def test_where_names_cannot_be_exchanged_the_next_writer_gives_the_old_folder_back(tmp_path: Path) -> None:
    seen = outcomes(tmp_path, "atomic", 9, "no exchange")
    found = [found for _, found, *_ in seen]
    assert found.count(None) in (1, 2, 3, 4)  # between two renames
    assert all(state in (None, whole("atomic", "old"), whole("atomic", "new")) for state in found)
    assert all((then, names) == (whole("atomic", "next"), ["out"]) for *_, then, names in seen)


@pytest.mark.parametrize("kind", ["file", "atomic"])
def test_interrupted_at_any_line_nothing_is_left_over(tmp_path: Path, kind: str) -> None:
    seen = outcomes(tmp_path, kind, 2)
    assert {status for status, *_ in seen[:-1]} == {130}
    for _, found, hidden, *_ in seen:
        assert found in (whole(kind, "old"), whole(kind, "new"))
        assert not hidden


def test_two_writers_of_one_output_leave_each_other_alone(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom shared.artifacts.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as new:\n"
        "    new.write_text('slow')\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    with subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == b"ready\n"
        for _ in range(3):
            write_bytes(tmp_path / "a.png", b"quick")
        with atomic_path(tmp_path / "a.png") as ours:  # as well as another of the same process
            write_bytes(tmp_path / "a.png", b"quick")
            ours.write_bytes(b"ours")
        assert (tmp_path / "a.png").read_bytes() == b"ours"
        slow.communicate()
    assert slow.returncode == 0
    assert (tmp_path / "a.png").read_bytes() == b"slow"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_stage_is_taken_for_one_by_its_contents_too(tmp_path: Path) -> None:
    """What only looks like one, and that of another output, stay."""
    mine = tmp_path / ".a.png.0123456789ab"
    (mine / "thesis").mkdir(parents=True)
    other = tmp_path / ".a.png.ba9876543210"
    (other / "old" / "another").mkdir(parents=True)
    dead = tmp_path / ".a.png.aaaaaaaaaaaa"
    (dead / "new").mkdir(parents=True)
    (dead / "new" / ".tmpXYZ").write_text("left by a library")
    write_bytes(tmp_path / "a.png", b"x")
    assert sorted(os.listdir(tmp_path)) == [".a.png.0123456789ab", ".a.png.ba9876543210", "a.png"]


def test_what_libraries_write_for_their_owner_alone_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        for folder in (replaced_folder(tmp_path / "a"), atomic_folder(tmp_path / "b", owned=OWNED)):
            with folder as new:
                (new / "sub").mkdir(0o700)
                for file in (new / "about", new / "sub" / "frame"):
                    file.touch(0o600)
        with atomic_path(tmp_path / "c") as new:
            new.unlink()
            new.touch(0o600)
    finally:
        os.umask(old)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    folders = {"a", "a/sub", "b", "b/sub"}
    assert modes.keys() == folders | {"a/about", "a/sub/frame", "b/about", "b/sub/frame", "c"}
    assert all(mode == (0o750 if name in folders else 0o640) for name, mode in modes.items())
