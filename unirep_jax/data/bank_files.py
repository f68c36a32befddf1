"""Matrices memory-mapped where they lie in .npy, .npz and .safetensors files, headers checked.

Only headers are read, at most 16 MiB of them; nothing is ever unpickled.
"""

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from unirep_jax.data.archive import FeatureFileError, reading_errors
from unirep_jax.data.files import open_regular
from unirep_jax.data.limits import MAX_MEMBERS, MAX_RANK, SAFETENSORS_HEADER_BYTES
from unirep_jax.data.npy_header import NpyHeader, read_npy_header

SUFFIXES = (".npy", ".npz", ".safetensors")
_TYPES = {"F16": np.float16, "F32": np.float32}
# Bytes of an entry of every safetensors type: other tensors of a file are checked for their place.
_BYTES = dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1)
_BYTES |= dict.fromkeys(("U16", "I16", "F16", "BF16"), 2)
_BYTES |= dict.fromkeys(("U32", "I32", "F32"), 4) | dict.fromkeys(("U64", "I64", "F64", "C64"), 8)


class _Found(NamedTuple):
    """An array in a file: its type as the file has it, and why it cannot be mapped, if it cannot.

    offset, size: its bytes in the file.
    """

    dtype: np.dtype | str
    shape: tuple[int, ...]
    offset: int
    size: int
    obstacle: str = ""


def map_matrix(path: Path, key: str | None) -> tuple[np.memmap, str | None]:
    """The matrix of that name, or the only one there is, and its name; read-only.

    Raises:
      FeatureFileError: it is not there, not float16 or float32 [count, dim] with at least one row
        and column, not whole, or the file is not what its suffix says.
    """
    if path.suffix not in _READERS:
        raise FeatureFileError(path, None, f"a file of {', '.join(SUFFIXES)}", repr(path.suffix))
    if not path.is_file():  # a pipe would never end
        raise FeatureFileError(path, None, "a file", "nothing there")
    arrays = _READERS[path.suffix](path)
    key = _choose(path, key, arrays)
    found = arrays[key]
    if len(found.shape) != 2:
        raise FeatureFileError(path, key, "a matrix [count, dim]", f"shape {found.shape}")
    if 0 in found.shape:
        raise FeatureFileError(path, key, "at least one row and column", f"shape {found.shape}")
    if found.dtype not in (np.float16, np.float32):
        raise FeatureFileError(path, key, "float16 or float32", str(found.dtype))
    if found.obstacle:
        raise FeatureFileError(path, key, "rows that lie one after another", found.obstacle)
    expected = math.prod(found.shape) * found.dtype.itemsize
    if found.size != expected:
        raise FeatureFileError(path, key, f"{expected} bytes of {found.shape}", str(found.size))
    return np.memmap(path, found.dtype, "r", found.offset, found.shape), key


def _choose(path: Path, key: str | None, arrays: dict[str | None, _Found]) -> str | None:
    if None in arrays and key is not None:
        raise FeatureFileError(path, key, "no key, for a .npy file has one array", repr(key))
    if None in arrays:
        return None
    if key is not None:
        if key not in arrays:
            present = ", ".join(map(str, arrays)) or "nothing"
            raise FeatureFileError(path, key, "this key", f"only {present}")
        return key
    matrices = [name for name, found in arrays.items() if len(found.shape) == 2]
    if len(matrices) != 1:
        found = ", ".join(map(str, matrices)) or "none"
        raise FeatureFileError(path, None, "one matrix, or the key of one", found)
    return matrices[0]


def _read_npy(path: Path) -> dict[str | None, _Found]:
    with reading_errors(path, None, "a plain .npy array"), open_regular(path) as stream:
        found = _found(read_npy_header(stream))
        size = os.fstat(stream.fileno()).st_size - found.offset
        return {None: found._replace(size=size)}


def _found(header: NpyHeader) -> _Found:
    obstacle = "columns that do (Fortran order)" if header.fortran_order else ""
    return _Found(header.dtype, header.shape, header.offset, 0, obstacle)


def _read_npz(path: Path) -> dict[str | None, _Found]:
    arrays: dict[str | None, _Found] = {}
    with (
        reading_errors(path, None, "an .npz file"),
        open_regular(path) as stream,
        zipfile.ZipFile(stream) as members,
    ):
        if len(members.infolist()) > MAX_MEMBERS:
            raise ValueError(f"{len(members.infolist())} arrays, more than {MAX_MEMBERS}")
        for member in members.infolist():
            if not member.filename.endswith(".npy"):
                continue
            key = member.filename.removesuffix(".npy")
            if key in arrays:
                raise FeatureFileError(path, key, "one array of this name", "two")
            with reading_errors(path, key, "a plain .npy array"):
                arrays[key] = _read_member(stream, members, member)
    return arrays


def _read_member(stream: BinaryIO, members: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Found:
    with members.open(member) as content:
        found = _found(read_npy_header(content))
    size = member.file_size - found.offset
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        return found._replace(size=size, obstacle="a compressed array; np.savez stores them plain")
    # The header before the data has name and extra field of its own; the directory's may differ.
    stream.seek(member.header_offset)
    name_length, extra_length = struct.unpack("<26x2H", stream.read(30))
    offset = member.header_offset + 30 + name_length + extra_length
    if offset + member.file_size > stream.seek(0, io.SEEK_END):
        raise ValueError("an array that ends beyond the file")
    return found._replace(offset=offset + found.offset, size=size)


def _read_safetensors(path: Path) -> dict[str | None, _Found]:
    with reading_errors(path, None, "a safetensors file"), open_regular(path) as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        size = os.fstat(stream.fileno()).st_size - 8
        if length > min(size, SAFETENSORS_HEADER_BYTES):
            raise ValueError(f"a header of {length} bytes in {size}")
        header = json.loads(stream.read(length).decode(), object_pairs_hook=_without_repeats)
        header.pop("__metadata__", None)
        places = []
        arrays = {}
        for key, entry in header.items():
            expected = "a known dtype, a shape and the data_offsets that fit it"
            with reading_errors(path, key, expected):
                arrays[key], first, last = _read_tensor(entry, 8 + length)
                places.append((first, last, key))
        end = 0
        for first, last, key in sorted(places):
            if first != end:
                raise FeatureFileError(path, key, f"data from byte {end}", f"from {first}")
            end = last
        if end != size - length:
            raise ValueError(f"{size - length} bytes of data where tensors have {end}")
    return arrays


def _read_tensor(entry: dict, start: int) -> tuple[_Found, int, int]:
    dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = (*shape, first, last)
    if len(shape) > MAX_RANK or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"{len(shape)} axes, or what is no length")
    if _BYTES[dtype] * math.prod(shape) != last - first:
        raise ValueError(f"{dtype} {shape} in {last - first} bytes")
    found = _Found(
        np.dtype(_TYPES[dtype]) if dtype in _TYPES else dtype,
        tuple(shape),
        start + first,
        last - first,
    )
    return found, first, last


def _without_repeats(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name that comes twice")
    return made


_READERS: dict[str, Callable[[Path], dict[str | None, _Found]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
