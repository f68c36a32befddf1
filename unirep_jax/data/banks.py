"""Embedding banks: one matrix of unit vectors and what is known of it, on disk, memory-mapped."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.bank_files import map_matrix
from unirep_jax.data.files import read_bytes, user_path
from unirep_jax.data.limits import SIDE_FILE_BYTES
from unirep_jax.data.mapped import chunks, replace_file

FORMAT = "unirep_jax bank 1"
_TOLERANCE = {"float16": 1e-2, "float32": 1e-3}  # of a norm
_FIELDS = {
    "format": str,
    "name": str,
    "dim": int,
    "count": int,
    "dtype": str,
    "sha256": str,
    "unit": bool,
    "about": str,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """Embeddings of one kind of thing in one space.

    embeddings: float16 or float32 [count, dim], memory-mapped and read-only. unit: whether rows are
    unit vectors; aggregated ones are not. sha256: of the array's bytes, where it is known.
    """

    name: str
    embeddings: Float[np.ndarray, "count dim"]
    unit: bool = True
    about: str = ""
    sha256: str | None = None


def open_bank(path: str | Path, *, key: str | None = None, verify: bool = False) -> Bank:
    """A bank whose matrix stays on disk until it is used.

    The file is a `.npy` file, an `.npz` file whose arrays are not compressed, or a `.safetensors`
    file. What `write_bank` knows of it is read from the file beside it that ends in `.json`;
    without one, the rows must be unit vectors. Every row is read once, a few MiB at a time.

    Args:
      path: the file.
      key: the name of the array in an `.npz` or `.safetensors` file; not needed for an only matrix.
      verify: also compare the bytes with the hash that was taken when they were written.

    Raises:
      FeatureFileError: there is no float16 or float32 matrix with at least one row and column, it
        is not whole, it is not as the side file says, there is no hash to verify, or a row is not
        finite or, where rows are unit vectors, has a norm that differs from 1 by more than 0.01
        in float16 or 0.001 in float32.
    """
    path = user_path(path)
    embeddings, key = map_matrix(path, key)
    known = _read_side_file(path, embeddings)
    bank = Bank(
        name=known.get("name", path.stem),
        embeddings=embeddings,
        unit=known.get("unit", True),
        about=known.get("about", ""),
        sha256=known.get("sha256"),
    )
    if verify and bank.sha256 is None:
        raise FeatureFileError(_side_file(path), "sha256", "a hash to verify", "no such file")
    digest = hashlib.sha256()
    for chunk in _pieces(embeddings):
        _check_rows(embeddings[chunk], chunk.start, bank.unit, path, key)
        if verify:
            digest.update(embeddings[chunk])
    if verify and digest.hexdigest() != bank.sha256:
        raise FeatureFileError(path, key, f"bytes of sha256 {bank.sha256}", digest.hexdigest())
    return bank


def write_bank(
    path: str | Path,
    embeddings: Float[np.ndarray, "count dim"] | Iterable[Float[np.ndarray, "rows dim"]],
    *,
    name: str,
    about: str = "",
    unit: bool = True,
) -> None:
    """Writes a matrix, or blocks of its rows, to `path` and what is known of it beside.

    Half precision stays half precision. The matrix is written beside `path` and renamed, then its
    side file: a reader sees the old bank, the new one, or the new one without side file.

    Args:
      path: ends in `.npy`; the side file ends in `.json`.
      embeddings: float16 or float32, possibly memory-mapped; blocks are taken one at a time.
      name: of the bank.
      about: free text.
      unit: whether rows are unit vectors.

    Raises:
      FeatureFileError: `open_bank` would refuse the bank; nothing has been written then.
    """
    path = user_path(path)
    if path.suffix != ".npy":
        raise FeatureFileError(path, None, "a name that ends in .npy", repr(path.suffix))
    blocks = embeddings
    if isinstance(embeddings, np.ndarray):
        _check_block(embeddings, embeddings, path)
        blocks = (embeddings[chunk] for chunk in _pieces(embeddings))
    writing = _Writing(path, unit)
    side = _side_file(path)
    replace_file(path, lambda stream: writing.write(stream, iter(blocks)), stale=side)
    known = {
        "format": FORMAT,
        "name": name,
        "dim": writing.dim,
        "count": writing.count,
        "dtype": str(writing.dtype),
        "sha256": writing.digest.hexdigest(),
        "unit": bool(unit),
        "about": about,
    }
    text = json.dumps(known, indent=2, ensure_ascii=False) + "\n"
    replace_file(side, lambda stream: stream.write(text.encode()))


class _Writing:
    """Blocks on their way into a .npy file, counted and hashed."""

    def __init__(self, path: Path, unit: bool):
        self.path, self.unit = path, unit
        self.count = self.dim = 0
        self.dtype = np.dtype(np.float32)
        self.digest = hashlib.sha256()

    def write(self, stream: BinaryIO, blocks: Iterator[np.ndarray]) -> None:
        first = next(blocks, None)
        if first is None:
            raise FeatureFileError(self.path, None, "at least one row", "no block of rows")
        _check_block(first, first, self.path)
        self.dim, self.dtype = first.shape[1], first.dtype
        self._header(stream)
        start = stream.tell()
        self._add(stream, first)
        for block in blocks:
            _check_block(block, first, self.path)
            self._add(stream, block)
        if not self.count:
            raise FeatureFileError(self.path, None, "at least one row", "blocks without any")
        stream.seek(0)
        self._header(stream)  # NumPy leaves room for any number of rows
        assert stream.tell() == start, "a header of another length"

    def _header(self, stream: BinaryIO) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, self.dim),
        }
        np.lib.format.write_array_header_1_0(stream, header)

    def _add(self, stream: BinaryIO, block: np.ndarray) -> None:
        _check_rows(block, self.count, self.unit, self.path, None)
        content = np.ascontiguousarray(block)
        stream.write(content)
        self.digest.update(content)
        self.count += len(block)


def _side_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_side_file(path: Path, embeddings: np.ndarray) -> dict:
    """What is known of the bank, checked; nothing where there is no such file."""
    side = _side_file(path)
    if not side.exists():
        return {}
    try:
        known = json.loads(read_bytes(side, SIDE_FILE_BYTES))
    except (ValueError, OSError, RecursionError) as error:
        raise FeatureFileError(side, None, "JSON of a bank", str(error)) from error
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise FeatureFileError(side, "format", repr(FORMAT), repr(known)[:80])
    for key, kind in _FIELDS.items():
        if type(known.get(key)) is not kind:
            found = repr(known.get(key))[:80]
            raise FeatureFileError(side, key, f"a value of type {kind.__name__}", found)
    count, dim = embeddings.shape
    for key, found in {"count": count, "dim": dim, "dtype": str(embeddings.dtype)}.items():
        if known[key] != found:
            raise FeatureFileError(path, key, f"{known[key]} as in {side.name}", str(found))
    return known


def _pieces(embeddings: np.ndarray) -> Iterator[slice]:
    # Four times smaller than other chunks: in float32 they stay in the processor's cache.
    return chunks(len(embeddings), 16 * embeddings.shape[1])


def _check_block(block: np.ndarray, first: np.ndarray, path: Path) -> None:
    if block.ndim != 2 or block.shape[1] == 0:
        raise FeatureFileError(path, None, "rows [count, dim], dim > 0", f"shape {block.shape}")
    if block.dtype not in (np.float16, np.float32):
        raise FeatureFileError(path, None, "float16 or float32", str(block.dtype))
    if (block.shape[1], block.dtype) != (first.shape[1], first.dtype):
        expected = f"{first.dtype} rows of {first.shape[1]} as before"
        raise FeatureFileError(path, None, expected, f"{block.dtype} of {block.shape[1]}")


def _check_rows(rows: np.ndarray, start: int, unit: bool, path: Path, key: str | None) -> None:
    values = np.asarray(rows, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    if not np.isfinite(norms).all():  # a large value may overflow without being infinite itself
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            value = values[row][~np.isfinite(values[row])][0]
            raise FeatureFileError(path, key, "finite values", f"{value} in row {start + row}")
    tolerance = _TOLERANCE[str(rows.dtype)]
    wrong = np.abs(norms - 1) > tolerance
    if unit and wrong.any():
        row = int(np.argmax(wrong))
        expected = f"rows of norm 1 within {tolerance:g}"
        raise FeatureFileError(path, key, expected, f"norm {norms[row]:.6g} in row {start + row}")
