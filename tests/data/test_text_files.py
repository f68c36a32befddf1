"""Tables, lists, captions and sound as the world writes them down."""

import contextlib
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirep_jax.data.builders import DataFolderError
from unirep_jax.data.builders._manual import captions
from unirep_jax.data.builders._tables import lines, records, rows, table
from unirep_jax.data.builders.upmc_food101 import _text
from unirep_jax.data.files import split_lines, user_path
from unirep_jax.data.wav import parse_wav

# Where str.splitlines also ends a line.
SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
ENDS = ["\n", "\r\n", "\r"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("inside", SEPARATORS)
def test_a_row_ends_at_the_end_of_a_line_alone(tmp_path, inside, end):
    path = tmp_path / "clips.csv"
    caption = f"rain{inside}falls"
    path.write_bytes(f"name,caption{end}a,{caption}{end}b,wind{end}".encode())
    assert table(path, "name", "caption") == [
        {"name": "a", "caption": caption},
        {"name": "b", "caption": "wind"},
    ]
    path.write_bytes(f"{caption}{end}wind{end}".encode())
    assert captions(path) == lines(path) == _text(path).split("\n") == [caption, "wind"]
    assert rows(path) == [[caption], ["wind"]]


def test_a_quoted_field_keeps_its_lines(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_bytes('\ufeffname,caption\r\na,"one, ""two""\r\nthree"\r\n'.encode())
    assert table(path, "name", "caption") == [{"name": "a", "caption": 'one, "two"\r\nthree'}]


@pytest.mark.parametrize("read", [captions, lines, lambda p: _text(p).split("\n")])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, read):
    path = tmp_path / "captions.txt"
    path.write_bytes("\ufeffa bird\r\nwith a beak 😀\r\n".encode())
    assert read(path) == ["a bird", "with a beak 😀"]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), max_size=5),
    st.sampled_from(ENDS),
)
def test_lines_come_back_whatever_is_in_them(found, end):
    assert split_lines("".join(line + end for line in found)) == found


@pytest.mark.parametrize("read", [captions, lines, rows, lambda p: records(p, "id")])
@pytest.mark.parametrize("place", ["a pipe", "a folder", "nothing"])
def test_what_is_no_file_of_text_is_named_and_not_waited_for(tmp_path, read, place):
    path = tmp_path / "captions.txt"
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a folder":
        path.mkdir()
    with pytest.raises(DataFolderError, match=r"captions\.txt: expected UTF-8 text"):
        read(path)


def test_a_home_that_is_not_there_leaves_the_path_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/set.npz") == tmp_path / "set.npz"
    assert str(user_path("~nobody-of-this-name/set.npz")) == "~nobody-of-this-name/set.npz"


SAMPLES = (1000 * np.sin(np.arange(1600))).astype("<i2")
DATA = SAMPLES.tobytes()
GUID = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"


def wav(
    data=DATA,
    *,
    channels=1,
    bits=16,
    code=1,
    extra=b"",
    before=b"",
    after=b"",
    size=None,
    riff=b"RIFF",
):
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, 16000, 16000 * frame, frame, bits) + extra
    body = b"WAVE" + chunk(b"fmt ", form) + before + b"data"
    body += struct.pack("<I", len(data) if size is None else size) + data + after
    return riff + struct.pack("<I", len(body)) + body


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize(
    "content",
    [
        wav(),
        wav(before=chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0\0")),
        wav(before=chunk(b"junk", b"abc")),
        wav(after=chunk(b"LIST", b"abcd")),
        wav(code=0xFFFE, extra=struct.pack("<HHI", 22, 16, 4) + b"\x01\0" + GUID),
        wav(extra=b"\0\0"),
    ],
    ids=["plain", "list before", "odd chunk", "list after", "extensible", "format of 18 bytes"],
)
def test_sound_is_read_whatever_is_beside_it(content):
    sound = parse_wav(content)
    assert sound.rate == 16000 and sound.channels == 1
    np.testing.assert_array_equal(sound.samples[:, 0], SAMPLES)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (wav()[:-400], "2800 of 3200 bytes of b'data': cut short"),
        (wav(size=0xFFFFFFFF), "cut short"),
        (wav(bits=8, data=b"\x80" * 1600), "format 1 of 8 bits"),
        (wav(code=3, bits=32), "format 3 of 32 bits"),
        (wav(code=0xFFFE, extra=struct.pack("<HHI", 22, 16, 4) + b"\x03\0" + GUID), "format 3"),
        (wav(channels=0), "0 channels"),
        (wav(data=b"abc"), "3 bytes in frames of 2"),
        (wav(riff=b"RIFX"), "no RIFF"),
        (wav()[:30], "cut short"),
        (wav()[:44][:36], "no data"),
        (b"", "no RIFF"),
    ],
)
def test_sound_that_is_not_whole_or_not_of_16_bits_is_refused(content, found):
    with pytest.raises(ValueError, match=found):
        parse_wav(content)


@given(st.binary(max_size=200), st.integers(0, 60), st.booleans())
def test_any_bytes_are_sound_or_one_error(content, cut, prefixed):
    content = wav(data=b"")[:cut] + content if prefixed else content
    with contextlib.suppress(ValueError):
        assert parse_wav(content).samples.dtype == np.int16
