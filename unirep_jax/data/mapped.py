"""Arrays larger than memory: in scratch files, by chosen rows or by pieces, and safely written."""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike

_CHUNK_BYTES = 1 << 24


def scratch_array(
    shape: tuple[int, ...], dtype: DTypeLike, folder: str | Path | None = None
) -> np.memmap:
    """Zeros in an unnamed file, whose space is free again when the array is gone.

    Args:
      shape: with no axis of length 0.
      dtype: of the array.
      folder: whose disk is used; by default that of `tempfile` (TMPDIR).

    Raises:
      OSError: the disk has not enough space.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # without it, a full disk ends the process at a write
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "w+", shape=shape)


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of an array, kept where the array is: in memory or on disk.

    Rows that follow one another are a view and cost nothing. Others are copied: of an array in
    memory into memory, of a memory-mapped one piece by piece into a `scratch_array`.

    Args:
      array: [example, ...].
      rows: ascending indices without repeats, at least one.
    """
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return array[first : last + 1]
    if not isinstance(array, np.memmap):
        return array[rows]
    taken = scratch_array((len(rows), *array.shape[1:]), array.dtype)
    for chunk in chunks(len(rows), max(1, array[0].nbytes)):
        taken[chunk] = array[rows[chunk]]
    return taken


def chunks(count: int, row_bytes: int) -> Iterator[slice]:
    """Slices over `count` rows that hold about 16 MiB each, at least one row."""
    rows = max(1, _CHUNK_BYTES // row_bytes)
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """A new file that is on the disk when this returns.

    Raises:
      FileExistsError: `path` exists.
    """
    with path.open("xb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())  # a rename must not reach the disk before the bytes


def replace_file(
    path: Path, write: Callable[[BinaryIO], object], *, stale: Path | None = None
) -> None:
    """A file written beside `path` and then renamed, so that a reader sees the old or the new.

    Args:
      path: what is replaced, or new.
      write: its content.
      stale: a file that goes right before, because it speaks of the old one.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_file(beside, write)
        if stale is not None:
            stale.unlink(missing_ok=True)
        beside.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
