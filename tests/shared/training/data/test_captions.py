"""Layouts of captions: what each kind of folder says, and bad lines by their number."""

import csv
import json
import unicodedata

import pytest

from shared.errors import InputError
from shared.training.data.captions import caption_from_name, find_sources, media_below, read_captions

CAPTIONS = {f"{i}.png": f'a cat, "asleep" on sofa {i}' for i in range(12)}


def media(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def json_lines(index, file, caption):
    index.write_text("".join(json.dumps({file: f, caption: c}) + "\n" for f, c in CAPTIONS.items()))


def table(index, file, caption, delimiter=",", encoding="utf-8", newline="\n"):
    with open(index, "w", encoding=encoding, newline="") as opened:
        rows = csv.writer(opened, delimiter=delimiter, lineterminator=newline)
        rows.writerows([(file, "licence", caption), *((f, "CC0", c) for f, c in CAPTIONS.items())])


def texts(folder):
    for file, caption in CAPTIONS.items():
        (folder / file).with_suffix(".txt").write_text(caption.replace(" on", "\r\non") + "\r\n", "utf-8-sig")


LAYOUTS = {
    "ours": lambda folder: json_lines(folder / "captions.jsonl", "file", "caption"),
    "the Hub's": lambda folder: json_lines(folder / "metadata.jsonl", "file_name", "text"),
    "a video folder": lambda folder: json_lines(folder / "metadata.jsonl", "video", "prompt"),
    "csv": lambda folder: table(folder / "captions.csv", "file", "caption"),
    "the Hub's csv": lambda folder: table(folder / "metadata.csv", "file_name", "text"),
    "a spreadsheet's": lambda folder: table(folder / "captions.csv", "File", "Text", ";", "utf-8-sig", "\r\n"),
    "texts beside": texts,
}


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("below", [".", "cats", "a/b"])
def test_every_layout_gives_the_same_captions(tmp_path, write, below):
    folder = tmp_path / below
    media(folder, *CAPTIONS)
    write(folder)
    found = {
        (source.folder / entry["file"]).relative_to(folder).as_posix(): entry["caption"]
        for source in find_sources(tmp_path)
        for entry in source.entries
    }
    assert found == CAPTIONS
    assert {entry["file"]: entry["caption"] for entry in read_captions(folder)} == CAPTIONS


def test_an_index_counts_for_what_lies_below_and_texts_for_the_rest(tmp_path):
    media(tmp_path, "cats/in/a.png", "cats/in/b.png", "cats/in/dogs/c.png", "d.mp4", "e.mp4", ".hidden/f.png")
    (tmp_path / "cats" / "captions.jsonl").write_text('{"file": "in/a.png", "caption": "a"}\n')
    (tmp_path / "cats" / "in" / "b.txt").write_text("not asked")
    (tmp_path / "cats" / "in" / "dogs" / "metadata.csv").write_text("file_name,text\nc.png,c\n")
    (tmp_path / "d.txt").write_text("d")
    sources = find_sources(tmp_path)
    assert [(s.folder.relative_to(tmp_path).as_posix(), s.layout) for s in sources] == [
        (".", ".txt"), ("cats", "captions.jsonl"), ("cats/in/dogs", "metadata.csv")
    ]  # fmt: skip
    assert [[entry["caption"] for entry in source.entries] for source in sources] == [["d"], ["a"], ["c"]]
    assert [source.uncaptioned for source in sources] == [["e.mp4"], ["in/b.png"], []]


def test_names_of_other_systems_are_understood(tmp_path):
    decomposed = unicodedata.normalize("NFD", "café.png")
    media(tmp_path, "clips/a.mp4", decomposed)
    lines = [{"file": r"clips\a.mp4", "caption": "line\u2028break"}, {"file": "café.png", "caption": " two \n words "}]
    text = "\r\n\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "captions.jsonl").write_text(text, "utf-8-sig")
    assert read_captions(tmp_path) == [
        {"file": "clips/a.mp4", "caption": "line break"},
        {"file": decomposed, "caption": "two words"},
    ]


GOOD = b'{"file": "a.png", "caption": "x"}\n'
BAD = {
    "captions.jsonl": [
        (b"", "at least one line"),
        (GOOD + b"not json\n", "line 2: expected a JSON object"),
        (b'{"file": "a.png"}\n', r'line 1: expected "file" and "caption" .*also text, prompt.*got file'),
        (b'{"file": "a.png", "caption": 3}\n', "line 1.*caption that is no text"),
        (b"[1]\n", "line 1"),
        (b"[" * 100_000, "line 1: expected a JSON object"),
        (b"1" * 10_000, "line 1: expected a JSON object"),
        (GOOD * 6 + b'{"file": "b.png", "caption": "it\x92s"}\n', "line 7: expected text in UTF-8, got the byte 0x92"),
        (GOOD.decode().encode("utf-16"), "UTF-16: save it as UTF-8"),
        *(
            (GOOD + json.dumps({"file": name, "caption": "x"}).encode(), "line 2: expected a file inside")
            for name in ("../x.png", "/etc/passwd", "a/../../x", r"C:\x.png", r"..\x.png", "http://x/a.png", "", "a\0b")
        ),
    ],
    "captions.csv": [
        (b"", "at least one line"),
        (b"a.png,x\nb.png,y\n", 'line 2: expected "file" and "caption"'),
        (b"file,caption\na.png,x\nb.png,red, green\n", "line 3: expected 2 columns.*double quotes"),
        (b'file,caption\na.png,"x\n', "line 2: expected comma-separated values"),
    ],
}


@pytest.mark.parametrize(("index", "data", "message"), [(i, *case) for i, cases in BAD.items() for case in cases])
def test_bad_lines_are_named(tmp_path, index, data, message):
    (tmp_path / index).write_bytes(data)
    for read in (read_captions, find_sources):
        with pytest.raises(InputError, match=message) as caught:
            read(tmp_path)
        assert len(str(caught.value).splitlines()) == 1


def test_without_captions_it_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"captions\.jsonl, metadata\.jsonl, captions\.csv or a \.txt.*got none"):
        find_sources(tmp_path)
    media(tmp_path, "roller_coaster-2.mp4", "deep/b.png")
    with pytest.raises(InputError, match=r"got 2 files without a caption\. .*kinoform data captions"):
        find_sources(tmp_path)
    assert media_below(tmp_path) == ["roller_coaster-2.mp4", "deep/b.png"]
    assert caption_from_name("clips/roller_coaster-2.mp4") == "roller coaster 2"


def test_a_circle_of_links_is_walked_once(tmp_path):
    media(tmp_path, "a/b.png")
    (tmp_path / "a" / "b.txt").write_text("b")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert [len(source.entries) for source in find_sources(tmp_path)] == [1]


def test_a_clip_may_say_that_its_start_is_to_be_given(tmp_path):
    index = tmp_path / "captions.jsonl"
    index.write_text('{"file": "a.mp4", "caption": "a cat", "start": "given"}\n')
    assert read_captions(tmp_path)[0]["start"] == "given"
    index.write_text('{"file": "a.mp4", "caption": "a cat", "start": 1}\n')
    with pytest.raises(InputError, match=r"line 1: expected .start. as"):
        read_captions(tmp_path)


def test_cameras_of_views_are_read_and_wrong_ones_named(tmp_path):
    index = tmp_path / "captions.jsonl"
    media(tmp_path, "a.mp4")
    index.write_text('{"file": "a.mp4", "caption": "a cat", "cameras": [[0, 10], [90.5, 10]]}\n')
    assert read_captions(tmp_path)[0]["cameras"] == [(0.0, 10.0), (90.5, 10.0)]
    for wrong in ("3", "[]", "[1, 2]", '[["a", 1]]', "[[1, 2, 3]]", "[[NaN, 1]]"):
        index.write_text(f'{{"file": "a.mp4", "caption": "a cat", "cameras": {wrong}}}\n')
        with pytest.raises(InputError, match=r"line 1: expected .cameras. as a list of \[azimuth, elevation\]"):
            read_captions(tmp_path)
