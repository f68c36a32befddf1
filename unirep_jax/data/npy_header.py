"""Headers of .npy arrays, checked before any data are read."""

import io
import math
from typing import IO, NamedTuple

import numpy as np

from unirep_jax.data.limits import HEADER_BYTES, MAX_RANK


class NpyHeader(NamedTuple):
    """offset: where the data begin, from the start of the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


def read_npy_header(stream: IO[bytes]) -> NpyHeader:
    """The header at the place of the stream, of which at most 64 KiB are read.

    Raises:
      ValueError: it is none of version 1 or 2 (that of plain arrays), or its shape is none.
    """
    # Of a part in memory: a damaged length must not make NumPy read gigabytes.
    head = io.BytesIO(stream.read(HEADER_BYTES))
    version = np.lib.format.read_magic(head)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, fortran_order, dtype = readers[version](head)
    if len(shape) > MAX_RANK or any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    return NpyHeader(dtype, tuple(map(int, shape)), fortran_order, head.tell())
