"""What is printed is read back by small terminals of our own."""

import base64
import io
import re

import numpy as np
import pytest
import rich.console
from PIL import Image

from lab.show.terminal_picture import GREYS, LEVELS, as_rich, detect, draw, nearest_256


def picture(height=13, width=20, seed=0):
    """Smooth, of a few hundred colours."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def xterm_256(index):
    if index >= 232:
        return (int(GREYS[index - 232]),) * 3
    index -= 16
    return tuple(int(LEVELS[i]) for i in (index // 36, index // 6 % 6, index % 6))


def read_blocks(text):
    """The pixels of half blocks, and what no pixel was for, as -1."""
    rows = []
    for line in text.splitlines():
        upper, lower, fore, back = [], [], None, None
        for codes, sign in re.findall(r"\x1b\[([\d;]*)m|(.)", line):
            numbers = [int(code or 0) for code in codes.split(";")] if not sign else []
            while numbers:
                code = numbers.pop(0)
                if code in (38, 48):
                    kind = numbers.pop(0)
                    colour = xterm_256(numbers.pop(0)) if kind == 5 else tuple(numbers[:3])
                    numbers = numbers[3:] if kind == 2 else numbers
                    fore, back = (colour, back) if code == 38 else (fore, colour)
                elif code == 49:
                    back = (-1, -1, -1)
                else:
                    assert code == 0
                    fore = back = (-1, -1, -1)
            if sign:
                assert sign == "▀"
                upper.append(fore)
                lower.append(back)
        rows += [upper, lower]
        assert fore == (-1, -1, -1), "colours end with the line"
    return np.array(rows)


def read_sixel(text):
    """The picture in sixels; every pixel must be painted once."""
    body = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\\n', text, re.DOTALL)
    width, height = int(body[1]), int(body[2])
    colours, shown = {}, np.full((height + 6, width, 3), -1)
    x = y = colour = 0
    for token in re.findall(r"#[\d;]+|!\d+.|[$-]|[?-~]", body[3]):
        if token[0] == "#" and ";" in token:
            index, kind, *levels = map(int, token[1:].split(";"))
            assert kind == 2
            assert max(levels) <= 100
            colours[index] = levels
        elif token[0] == "#":
            colour = int(token[1:])
        elif token == "$":
            x = 0
        elif token == "-":
            x, y = 0, y + 6
        else:
            count, bits = (int(token[1:-1]) if token[0] == "!" else 1), ord(token[-1]) - 63
            for row in range(6):
                if bits >> row & 1:
                    place = shown[y + row, x : x + count]
                    assert (place == -1).all()
                    place[:] = colours[colour]
            x += count
            assert x <= width
    assert (shown[height:] == -1).all()
    return shown[:height] * 255 / 100


def read_kitty(text):
    """The PNG in kitty's commands, and the first one's keys."""
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    keys = [dict(pair.split("=") for pair in control.split(",")) for control, _ in commands]
    assert [key["m"] for key in keys] == ["1"] * (len(keys) - 1) + ["0"]
    assert all(len(data) <= 4096 for _, data in commands)
    assert all(len(data) % 4 == 0 for _, data in commands)
    data = base64.b64decode("".join(data for _, data in commands))
    return np.asarray(Image.open(io.BytesIO(data))), keys[0], len(commands)


def test_half_blocks_of_24_bits_are_the_pixels():
    shown = picture(13, 20)
    found = read_blocks(draw(shown, columns=80, protocol="blocks"))
    assert np.array_equal(found[:13], shown)
    assert (found[13] == -1).all()


def test_half_blocks_of_256_colours_are_the_nearest_ones():
    shown = picture(12, 20)
    found = read_blocks(draw(shown, columns=80, protocol="blocks-256"))
    every = np.array([xterm_256(index) for index in range(16, 256)])
    best = np.square(shown[:, :, None].astype(int) - every).sum(-1).min(-1)
    assert np.array_equal(np.square(found - shown).sum(-1), best)
    assert nearest_256((128, 128, 128)) == 244


def test_a_wide_picture_is_averaged_to_the_columns():
    shown = np.zeros((8, 80, 3), np.uint8)
    shown[:, ::2] = 200
    found = read_blocks(draw(shown, columns=40, protocol="blocks"))
    assert found.shape == (4, 40, 3)
    assert (found == 100).all()


@pytest.mark.parametrize("height", [6, 13])
def test_sixels_read_back(height):
    shown = picture(height, 20)
    found = read_sixel(draw(shown, columns=5, protocol="sixel"))  # 40 pixels: twice as large
    wanted = shown.repeat(2, 0).repeat(2, 1)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 12  # 256 colours of the picture's own, in hundredths
    assert np.abs(found - wanted).mean() <= 2


def test_sixels_of_a_flat_picture_are_repeats():
    text = draw(np.full((6, 80, 3), 255, np.uint8), columns=10, protocol="sixel")
    assert "!80~" in text
    assert (read_sixel(text) == 255).all()


def test_kitty_reads_back_in_chunks():
    shown = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found, keys, commands = read_kitty(draw(shown, columns=20, protocol="kitty"))
    assert np.array_equal(found, shown.repeat(2, 0).repeat(2, 1))
    assert keys["a"] == "T"
    assert (keys["f"], keys["c"], keys["q"]) == ("100", "20", "2")
    assert commands > 1


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/x"}, "blocks-256"),
        ({"TERM": "foot", "COLORTERM": "truecolor"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks-256"),
        ({"TERM": "xterm"}, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({}, None),
    ],
)
def test_what_a_terminal_can_show(environ, protocol):
    assert detect(environ, isatty=True) == protocol
    assert detect(environ, isatty=False) is None


def test_among_rich_things_it_is_half_blocks_in_the_room_there_is():
    shown = picture(32, 64)

    def printed(width, height):
        file = io.StringIO()
        console = rich.console.Console(
            file=file, force_terminal=True, color_system="truecolor", width=width, height=height, _environ={}
        )
        console.print(as_rich(shown), end="")
        return read_blocks(file.getvalue())

    assert np.array_equal(printed(100, 40), shown)
    assert printed(32, 40).shape == (16, 32, 3)
    assert printed(100, 12).shape == (16, 32, 3)
