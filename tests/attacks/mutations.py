"""What an attacker may make of a right file: hypothesis draws it, by the kind of file."""

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

LENGTHS = [0, 1, 2, 3, 4, 5, 255, 65_536, 10**6, 2**31 - 1, 2**31, 2**40, 2**62, 2**63, 10**30, -1]
DTYPES = [
    "<f4",
    ">f4",
    "<f8",
    "<f2",
    "<f16",
    "|i1",
    "<i8",
    ">i4",
    "<u8",
    "|b1",
    *["<U0"] * 6,  # elements without bytes
    "<U1",
    "<U9",
    f"<U{10**9}",
    "|S0",
    "|S4",
    "|V0",
    "|V8",
    "|O",
    "<c8",
    "<M8[s]",
    "<m8",
    "(2,)<f4",
    "x",
    "",
]
# The ends of every range, and what JSON readers are known to stumble over.
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    0.0,
    -0.0,
    0.5,
    1e308,
    -1e308,
    1e-320,
    10**19,
    -(10**19),
    10**400,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "a",
    "\ud800",
    "\x00",
    "\u2028",
    "\x1b[31m",
    "=1+1",
    "<script>",
    "../../x",
    "/etc/passwd",
    "x" * 5_000,
    [],
    {},
    [[]],
    [None],
    {"a": {}},
    [1] * 100,
]
CHARACTERS = [
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b",
    "\x0c",
    "\x1c",
    "\r",
    "\n",
    "\x00",
    '"',
    "'",
    ",",
    "\t",
    "&",
    ";",
    "\\",
    "/",
    "..",
    "\ufeff",
    "\ufffe",
    "e\u0301",
    "\u202e",
    "=",
    "9" * 5_000,
    "-",
    "1e999",
]


def spoiled(draw: Callable, content: bytes, suffix: str) -> bytes:
    """A right file after one to three changes that suit its kind, each drawn with `draw`."""
    changes = [_bytes, _bytes, _BY_SUFFIX.get(suffix, _bytes), _BY_SUFFIX.get(suffix, _bytes)]
    for _ in range(draw(st.integers(1, 3))):
        content = draw(st.sampled_from(changes))(draw, content)
    return content


def _bytes(draw, content: bytes) -> bytes:
    """Cut, flipped, put in, taken out, moved, or something else altogether."""
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    length = draw(st.integers(0, 64))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "remove", "repeat", "zeros", "other"]))
    if kind == "cut":
        return content[:place]
    if kind == "flip" and content:
        bit = 1 << draw(st.integers(0, 7))
        return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
    if kind == "insert":
        return content[:place] + draw(st.binary(max_size=64)) + content[place:]
    if kind == "remove":
        return content[:place] + content[place + length :]
    if kind == "repeat":
        return content[:place] + content[place : place + length] * 3 + content[place + length :]
    if kind == "zeros":
        return content[:place] + bytes(length) + content[place + length :]
    return draw(st.one_of(st.binary(max_size=200), st.sampled_from(_OTHERS)))


def _npy(draw, content: bytes) -> bytes:
    """Another header before the same data."""
    try:
        stream = io.BytesIO(content)
        np.lib.format.read_magic(stream)
        shape, order, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception:  # it was spoiled before
        return _bytes(draw, content)
    data = stream.read()
    shape, name = list(shape), dtype.str
    kind = draw(st.sampled_from(["length", "rank", "dtype", "bare", "order", "text"]))
    if kind in ("length", "bare") and shape:
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.sampled_from(LENGTHS))
    if kind in ("dtype", "bare"):
        name = draw(st.sampled_from(DTYPES))
    if kind == "bare":  # as of an array whose elements have no bytes
        data = b""
    if kind == "rank":
        shape = draw(st.lists(st.sampled_from(LENGTHS), max_size=12))
    if kind == "order":
        order = not order
    text = repr({"descr": name, "fortran_order": order, "shape": tuple(shape)})
    if kind == "text":
        text = draw(st.sampled_from(_HEADERS))
    header = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _npz(draw, content: bytes) -> bytes:
    """One member another, twice, elsewhere, compressed, or missing."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:
        return _bytes(draw, content)
    if not members:
        return content
    place = draw(st.integers(0, len(members) - 1))
    name, member = members[place]
    kind = draw(st.sampled_from(["member", "member", "missing", "name"]))
    if kind == "missing":
        del members[place]
    elif kind == "name":
        other = draw(st.sampled_from(["../x.npy", "/x.npy", "modality/a b.npy", "x", "é.npy"]))
        members[place] = (other, member)
    else:
        members[place] = (name, (_npy if name.endswith(".npy") else _bytes)(draw, member))
    method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name may come twice
        for name, member in members:
            archive.writestr(name, member)
    return stream.getvalue()


def _json(draw, content: bytes) -> bytes:
    """One value of one line another."""
    try:
        lines = [json.loads(line) for line in content.splitlines()]
        end = b"\n"
    except (ValueError, RecursionError):
        try:
            lines, end = [json.loads(content)], b""
        except (ValueError, RecursionError):
            return _bytes(draw, content)
    if lines:
        place = draw(st.integers(0, len(lines) - 1))
        lines[place] = _other_value(draw, lines[place])
    return b"".join(json.dumps(line).encode() + end for line in lines)


def _other_value(draw, tree):
    value = draw(st.sampled_from(VALUES))
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if type(tree) is list else ()
    if not keys or draw(st.integers(0, 5)) == 0:
        return value
    key = draw(st.sampled_from(list(keys)))
    kind = draw(st.sampled_from(["value", "deeper", "missing", "more"]))
    if kind == "missing":
        del tree[key]
    elif kind == "more" and isinstance(tree, dict):
        tree[draw(st.sampled_from(["", "a.b", "\ud800", "step", "x" * 3_000]))] = value
    else:
        tree[key] = _other_value(draw, tree[key]) if kind == "deeper" else value
    return tree


def _pth(draw, content: bytes) -> bytes:
    """One operation of the pickle another, in its place in a zip file or as it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:
        return _pickle(draw, content)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, member in members:
            spoil = _pickle if name.endswith(".pkl") else _bytes
            archive.writestr(name, spoil(draw, member) if draw(st.booleans()) else member)
    return stream.getvalue()


def _pickle(draw, content: bytes) -> bytes:
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    skipped = draw(st.integers(0, 9))
    return content[:place] + draw(st.sampled_from(_OPERATIONS)) + content[place + skipped :]


def _safetensors(draw, content: bytes) -> bytes:
    """Another header, of its own length or of any."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, OverflowError, RecursionError):
        return _bytes(draw, content)
    text = json.dumps(_other_value(draw, header)).encode()
    said = draw(st.sampled_from([len(text), len(text), len(text), 0, 2**63, len(text) + 9]))
    return said.to_bytes(8, "little") + text + content[8 + length :]


def _text(draw, content: bytes) -> bytes:
    """Characters that end lines, fields, quotes or files somewhere."""
    place = draw(st.integers(0, len(content)))
    text = draw(st.one_of(st.sampled_from(CHARACTERS), st.text(max_size=9))).encode(
        draw(st.sampled_from(["utf-8", "utf-16", "utf-8"])), "surrogatepass"
    )
    return content[:place] + text + content[place:]


_OPERATIONS = [
    pickle.LONG_BINPUT + b"\xff\xff\xff\x7f",  # an object of this number: a table as large
    pickle.PUT + b"9999999999\n",
    pickle.BINBYTES8 + b"\xff" * 7 + b"\x7f",
    pickle.BINUNICODE + b"\xff\xff\xff\x7f",
    pickle.LONG4 + b"\xff\xff\xff\x7f",
    pickle.LONG1 + b"\xff" + b"\xff" * 255,
    pickle.GLOBAL + b"os\nsystem\n",
    pickle.STACK_GLOBAL,
    pickle.REDUCE,
    pickle.BUILD,
    pickle.NEWOBJ,
    pickle.BINPERSID,
    pickle.PERSID + b"x\n",
    pickle.EXT4 + b"\x01\x00\x00\x00",
    pickle.MARK,
    pickle.DUP,
    pickle.DUP + pickle.APPEND,  # a list within itself
    pickle.TUPLE,
    pickle.EMPTY_DICT + pickle.SETITEM,
    pickle.BINGET + b"\x00",
    pickle.BININT + b"\xff\xff\xff\x7f",
    pickle.BININT + b"\x00\x00\x00\x80",
    pickle.NONE,
    pickle.POP,
    pickle.STOP,
]
_HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)",
    "{}",
    "",
    "(" * 3_000,
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': [4]}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': ('4',)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
    "__import__('os').getpid()",
]
_OTHERS = [
    b"",
    b"\x93NUMPY",
    b"PK\x03\x04",
    b"PK\x05\x06" + bytes(18),
    b"\x89HDF\r\n\x1a\n",
    b"null",
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b"\xff\xfe",
    b"RIFF\xff\xff\xff\xffWAVEfmt ",
    b"\x80\x04.",
    bytes(4_096),
    b"version https://git-lfs.github.com/spec/v1\n",
    b"\n" * 1_000,
    b'"' * 1_000,
]
_BY_SUFFIX = {
    ".npy": _npy,
    ".npz": _npz,
    ".json": _json,
    ".jsonl": _json,
    ".safetensors": _safetensors,
    ".pth": _pth,
    ".csv": _text,
    ".tsv": _text,
    ".txt": _text,
}
