"""Variables of MATLAB files, unpacked no further than any of the published ones is large."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np

from unirep_jax.data.builders._manual import undecodable
from unirep_jax.data.files import read_bytes
from unirep_jax.data.limits import MAT_BYTES

_HEADER_BYTES, _COMPRESSED = 128, 15


def mat_variable(path: Path, key: str) -> np.ndarray:
    """The variable as SciPy reads it.

    Raises:
      DataFolderError: the file has none of this name, is damaged, or becomes too large.
    """
    from scipy.io import loadmat

    try:
        content = read_bytes(path, MAT_BYTES)
        _check_unpacked(content)
        return np.asarray(loadmat(io.BytesIO(content), variable_names=[key])[key])
    except Exception as error:  # damaged files raise of every kind
        raise undecodable(path, f"the variable {key!r}", error) from error


def _check_unpacked(content: bytes) -> None:
    """The elements of the file together are not too many bytes: a few may become any number."""
    order = ">" if content[126:128] == b"MI" else "<"
    place, total = _HEADER_BYTES, 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}2I", content, place)
        if kind == _COMPRESSED:
            unpacking = zlib.decompressobj()
            packed = content[place + 8 : place + 8 + size]
            total += len(unpacking.decompress(packed, MAT_BYTES + 1 - total))
        if total > MAT_BYTES:
            raise ValueError(f"more than {MAT_BYTES} bytes once it is unpacked")
        place += 8 + size
