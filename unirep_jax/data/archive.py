"""Arrays by key from a file or a folder that anybody may have made; nothing is ever unpickled."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from unirep_jax.data.files import open_regular, user_path
from unirep_jax.data.limits import MAX_ENTRIES, MAX_EXAMPLES, MAX_MEMBERS, MAX_TEXT, memory
from unirep_jax.data.members import check_members
from unirep_jax.data.npy_header import NpyHeader, read_npy_header
from unirep_jax.data.safe_text import safe_text

_KINDS = {"boolean": "b", "integer": "iu", "float": "f", "number": "iuf", "string": "U"}
_KINDS |= {"plain": "biufU"}
_NPY = np.lib.format.MAGIC_PREFIX
_SHOWN = 1000  # characters, in an error, of what a file says
_MAX_DEPTH = 3  # of folders in a folder of arrays
_Shape = tuple[int | None, ...] | None  # None for an axis of any length


class _Wanted(NamedTuple):
    """What a header has to say; see `Archive.read`."""

    kind: str
    shape: _Shape = None
    max_rows: int = MAX_EXAMPLES
    max_text: int = MAX_TEXT


class FeatureFileError(ValueError):
    """Unusable features: says where (file and key), what was expected and what was found."""

    def __init__(self, source: str | Path, key: str | None, expected: str, found: str):
        super().__init__(str(source), key, expected, found)

    def __str__(self) -> str:
        source, key, expected, found = self.args
        where = source if key is None else f"{source}: {key[:_SHOWN]}"
        return safe_text(f"{where}: expected {expected}, found {found[:_SHOWN]}")


class Archive:
    """Arrays by key from an `.npz` file or a folder of `.npy` files.

    Use as a context manager. `keys` are in the order of the file, of the alphabet in a folder.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        self._files: dict[str, Path] = {}
        self._npz = None
        self._stack = contextlib.ExitStack()
        if self.path.is_dir():
            self._files = _arrays_below(self.path)
            self.keys = tuple(self._files)
            return
        expected = "an .npz file or a folder of .npy files"
        if not self.path.is_file():  # a pipe would never end
            raise FeatureFileError(self.path, None, expected, "nothing there")
        with reading_errors(self.path, None, expected), contextlib.ExitStack() as stack:
            # Given a path, NumPy leaves its file open when the archive is damaged.
            stream = stack.enter_context(open_regular(self.path))
            if stream.peek(len(_NPY))[: len(_NPY)] == _NPY:  # NumPy would read all of it
                raise TypeError("a single array")
            self._npz = np.load(stream, allow_pickle=False)
            check_members(self._npz.zip)
            self.keys = tuple(self._npz.files)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def read(
        self,
        key: str,
        kind: str,
        shape: _Shape = None,
        *,
        memory_map: bool = False,
        max_rows: int = MAX_EXAMPLES,
        max_text: int = MAX_TEXT,
    ) -> np.ndarray:
        """The array of `key`, which must be of `kind` (boolean, integer, float, number or string).

        What its header says is checked before anything else of it is read.

        Args:
          key: its name; in a folder without the suffix.
          kind: of its dtype.
          shape: what it must be; by default anything.
          memory_map: leave a file of a folder on disk until it is used.
          max_rows: limit of its first axis.
          max_text: limit of the characters of a string.

        Raises:
          FeatureFileError: the key is missing or unreadable, the array is something else, larger,
            or larger than this machine's memory.
        """
        if key not in self.keys:
            present = ", ".join(self.keys[:20]) or "nothing"
            raise FeatureFileError(self.path, key, "this key", f"only {present}")
        with reading_errors(self.path, key, "a plain, complete array"):
            header, size = self._header(key)
        _check_header(self.path, key, header, _Wanted(kind, shape, max_rows, max_text))
        mapped = memory_map and self._npz is None
        with reading_errors(self.path, key, "a plain, complete array"):
            _check_size(header, size, mapped=mapped)
            if self._npz is not None:
                array = self._npz[key]
            else:
                mode: Literal["r"] | None = "r" if mapped else None
                array = np.load(self._files[key], mmap_mode=mode, allow_pickle=False)
        _check_content(self.path, key, array)
        return array

    def find(
        self,
        key: str,
        kind: str,
        shape: _Shape = None,
        *,
        max_rows: int = MAX_EXAMPLES,
        max_text: int = MAX_TEXT,
    ) -> np.ndarray | None:
        """`read`, or None where there is no such key."""
        if key not in self.keys:
            return None
        return self.read(key, kind, shape, max_rows=max_rows, max_text=max_text)

    def _header(self, key: str) -> tuple[NpyHeader, int]:
        """What the array says of itself, and how many bytes there are of both."""
        stream: BinaryIO
        if self._npz is None:
            with open_regular(self._files[key]) as stream:
                return read_npy_header(stream), os.fstat(stream.fileno()).st_size
        archive = self._npz.zip
        name = f"{key}.npy" if f"{key}.npy" in archive.NameToInfo else key
        with archive.open(name) as stream:
            return read_npy_header(stream), archive.getinfo(name).file_size


def load_array(path: str | Path) -> np.ndarray:
    """The one array of a `.npy` file: booleans, integers, floats or strings.

    Raises:
      FeatureFileError: it is anything else, or larger than this machine's memory.
    """
    path, expected = user_path(path), "a plain .npy array"
    with reading_errors(path, None, expected), open_regular(path) as stream:
        header, size = read_npy_header(stream), os.fstat(stream.fileno()).st_size
        _check_header(path, None, header, _Wanted("plain"))
        _check_size(header, size, mapped=False)
        stream.seek(0)
        array = np.load(stream, allow_pickle=False)
    _check_content(path, None, array)
    return array


def _check_size(header: NpyHeader, size: int, *, mapped: bool) -> None:
    """The array is as large as it says, and fits into memory if it goes there."""
    if header.nbytes != size - header.offset:
        raise ValueError(f"{size - header.offset} bytes of {header.nbytes}")
    if not mapped and header.nbytes > memory():
        limit = f"{memory() / 1e9:.1f} GB of memory"
        raise ValueError(f"{header.nbytes / 1e9:.1f} GB for {limit}")


def _check_header(path: Path, key: str | None, header: NpyHeader, wanted: _Wanted) -> None:
    kind, shape, max_rows, max_text = wanted
    dtype = header.dtype
    if dtype.hasobject or dtype.kind not in _KINDS[kind]:
        found = "pickled Python objects" if dtype.hasobject else str(dtype)
        raise FeatureFileError(path, key, f"a {kind} array", found)
    if shape is not None and (
        len(header.shape) != len(shape)
        or any(want not in (None, have) for want, have in zip(shape, header.shape, strict=True))
    ):
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        found = f"shape {header.shape}"
        raise FeatureFileError(path, key, f"shape ({lengths})", found)
    if header.shape and header.shape[0] > max_rows:
        raise FeatureFileError(path, key, f"{max_rows} rows or fewer", f"{header.shape[0]}")
    # An array of strings without a character has no bytes, whatever number it says it has.
    length = dtype.itemsize // 4
    if dtype.kind == "U" and header.size and not 0 < length <= max_text:
        expected = f"texts of 1 to {max_text} characters"
        raise FeatureFileError(path, key, expected, str(length))


def _check_content(path: Path, key: str | None, array: np.ndarray) -> None:
    """Bytes that NumPy would take for what they are not: it checks none of these."""
    if array.dtype.kind == "b":
        other = array.view(np.uint8) > 1
        if other.any():
            row = np.unravel_index(np.argmax(other), array.shape)[0] if array.ndim else 0
            raise FeatureFileError(path, key, "True or False", f"neither in row {row}")
    if array.dtype.kind == "U":
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        codes = np.ascontiguousarray(native).reshape(-1).view(np.uint32)
        other = (codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))
        if other.any():
            found = f"code {codes[np.argmax(other)]:#x}"
            raise FeatureFileError(path, key, "Unicode text", found)


@contextlib.contextmanager
def reading_errors(path: Path, key: str | None, expected: str) -> Iterator[None]:
    """What goes wrong inside, as one error that names the file and the key."""
    try:
        yield
    except FeatureFileError:
        raise
    except Exception as error:  # damaged bytes raise of every kind, from zipfile to tokenize
        raise FeatureFileError(path, key, expected, f"{type(error).__name__}: {error}") from error


def _arrays_below(folder: Path) -> dict[str, Path]:
    """The .npy files of a folder by key, in the order of the alphabet.

    The search is cut short in a folder that is none of arrays, as / or a home.
    """
    files: list[Path] = []
    entries, waiting = 0, [(folder, 1)]
    while waiting:
        place, depth = waiting.pop()
        try:
            found = list(place.iterdir())
        except OSError:
            continue  # a folder that may not be read holds no array that could be
        entries += len(found)
        if entries > MAX_ENTRIES or len(files) > MAX_MEMBERS:
            expected = f"a folder of .npy files, {MAX_ENTRIES} entries at most"
            raise FeatureFileError(folder, None, expected, "more")
        for entry in found:
            if entry.suffix == ".npy":
                files.append(entry)
            elif depth < _MAX_DEPTH and entry.is_dir():
                waiting.append((entry, depth + 1))
    keys = {f.relative_to(folder).with_suffix("").as_posix(): f for f in sorted(files)}
    for key, file in keys.items():
        if not file.is_file():  # a pipe would never end
            raise FeatureFileError(folder, key, "a file", "a link to nothing, or another")
    return keys
