"""Arrays in HDF5 files: a whole one, or a row at a time."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.limits import H5_BYTES

_Shape = tuple[int | None, ...]  # None for an axis of any length


@dataclasses.dataclass(frozen=True)
class H5Row:
    """One row of an array of numbers in a file, not yet read."""

    path: Path
    key: str
    row: int

    def read(self) -> np.ndarray:
        with _dataset(self.path, self.key) as dataset:
            _check_size(math.prod(dataset.shape[1:]) * dataset.dtype.itemsize, "a row")
            return dataset[self.row]


def h5_array(path: Path, key: str, shape: _Shape) -> np.ndarray:
    """The whole array, which must be of this shape.

    Raises:
      FeatureFileError: it is not, or the file is damaged.
    """
    check_h5(path, key, shape)
    with _dataset(path, key) as dataset:
        _check_size(dataset.nbytes, "the array")
        return dataset[()]


def check_h5(path: Path, key: str, shape: _Shape) -> None:
    """The array is there and of this shape; only the head of the file is read."""
    with _dataset(path, key) as dataset:
        found = dataset.shape
    if len(found) != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, found, strict=True)
    ):
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        raise FeatureFileError(path, key, f"shape ({lengths})", f"shape {found}")


def _check_size(nbytes: int, what: str) -> None:
    if nbytes > H5_BYTES:
        raise ValueError(f"{what} of {nbytes} bytes, more than {H5_BYTES}")


@contextlib.contextmanager
def _dataset(path: Path, key: str) -> Iterator[Any]:
    """An array of numbers that lies in this file and in no other one."""
    import h5py

    expected = "an array of numbers in an HDF5 file"
    try:
        if not path.is_file():
            raise FileNotFoundError("no file")
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise KeyError(f"no {key!r} itself, only {', '.join(file) or 'nothing'}")
            dataset = file[key]
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "biuf":
                raise TypeError(f"{getattr(dataset, 'dtype', 'a group')}")
            if dataset.is_virtual or dataset.external:
                raise ValueError("data in another file")
            # Reading one element reads its chunk; what is not written takes no place in a file.
            _check_size(math.prod(dataset.chunks or ()) * dataset.dtype.itemsize, "a chunk")
            yield dataset
    except FeatureFileError:
        raise
    except Exception as error:  # damaged files raise of every kind
        found = f"{type(error).__name__}: {error}"
        raise FeatureFileError(path, key, expected, found) from error
