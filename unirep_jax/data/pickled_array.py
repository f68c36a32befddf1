"""One NumPy array out of a pickle in a zip file, without running anything that the pickle says.

Published features come as `ID.zip` with one pickled array. A pickle is a program that may call any
function. Here it may name the functions that NumPy writes into pickles of arrays, and these names
stand for records of what was asked for: no NumPy function ever sees what the file says.
"""

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.files import read_bytes, user_path
from unirep_jax.data.limits import MAX_RANK, PICKLE_BYTES

_MAX_OPERATIONS = 256  # an array takes about 40
_MAX_MEMBERS = 16
_SIGNATURE = b"PK\x01\x02"  # of each member in the directory of a zip file
# What NumPy writes for an array with protocols 3 to 5. Nothing here makes an object of a class,
# a list or a dictionary, asks for a buffer from outside, or reserves memory before it is read.
_OPERATIONS = {
    "PROTO",
    "FRAME",
    "STOP",
    "GLOBAL",
    "STACK_GLOBAL",
    "REDUCE",
    "BUILD",
    "MARK",
    "TUPLE",
    "EMPTY_TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "BININT",
    "BININT1",
    "BININT2",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
    "MEMOIZE",
    "BINPUT",
    "BINGET",
}
_MODULES = ("numpy._core", "numpy.core")  # of NumPy 2 and before
_DTYPE = re.compile(r"[biuf][1248]")


class _Name:
    """A name that stands for a function; calling it leaves a record."""

    def __init__(self, make: Callable):
        self._make = make

    def __call__(self, *arguments):
        return self._make(*arguments)

    def __setstate__(self, state):
        raise pickle.UnpicklingError("state for a function")


class _Dtype:
    def __init__(self, code, align=False, copy=False):
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"a dtype of numbers was expected, found {code!r:.50}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        order = state[1] if isinstance(state, tuple) and len(state) >= 2 else None
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"a byte order was expected, found {order!r:.50}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """What the pickle says of an array, checked before anything is made of it."""

    def __init__(self, buffer=None, dtype=None, shape=None, order="C"):
        self.content = (buffer, dtype, shape, order)

    def __setstate__(self, state):
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("the five parts of an array were expected")
        _, shape, dtype, fortran, buffer = state
        self.content = (buffer, dtype, shape, "F" if fortran is True else "C")

    def make(self) -> np.ndarray:
        buffer, dtype, shape, order = self.content
        good = (
            isinstance(buffer, bytes | bytearray)
            and isinstance(dtype, _Dtype)
            and isinstance(shape, tuple)
            and len(shape) <= MAX_RANK
            and all(type(n) is int and n >= 0 for n in shape)
            and order in ("C", "F")
        )
        if not good:
            raise pickle.UnpicklingError("not the description of an array of numbers")
        size = math.prod(shape) * dtype.dtype.itemsize
        if size != len(buffer):
            raise pickle.UnpicklingError(f"shape {shape} needs {size} bytes, found {len(buffer)}")
        return np.frombuffer(buffer, dtype.dtype).reshape(shape, order=order)


_ARRAY_TYPE = object()


def _reconstruct(kind, shape, code) -> _Array:
    if kind is not _ARRAY_TYPE:
        raise pickle.UnpicklingError("only plain arrays are read")
    return _Array()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        for core in _MODULES:
            if (module, name) == (f"{core}.multiarray", "_reconstruct"):
                return _Name(_reconstruct)
            if (module, name) == (f"{core}.numeric", "_frombuffer"):
                return _Name(_Array)
        if (module, name) == ("numpy", "ndarray"):
            return _ARRAY_TYPE
        if (module, name) == ("numpy", "dtype"):
            return _Name(_Dtype)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def unpickle_array(content: bytes) -> np.ndarray:
    """The array of a pickle that holds one array of numbers, read-only.

    Integers, booleans and floats of up to 64 bits; protocols 3 to 5, from any version of NumPy.

    Raises:
      pickle.UnpicklingError: it holds, names or asks for anything else, or is not whole.
    """
    _check_operations(content)
    try:
        found = _Unpickler(io.BytesIO(content)).load()
        if not isinstance(found, _Array):
            raise pickle.UnpicklingError(f"an array was expected, found {type(found).__name__}")
        array = found.make()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a stack that is empty, arguments that do not fit ...
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    array.flags.writeable = False
    return array


def _check_operations(content: bytes) -> None:
    """Nothing but what arrays need, few of it, and all of it there; nothing is run."""
    if len(content) > PICKLE_BYTES:
        raise pickle.UnpicklingError(f"{len(content)} bytes, more than {PICKLE_BYTES}")
    count, end = 0, 0
    try:
        for operation, _, place in pickletools.genops(content):
            count, end = count + 1, (place or 0) + 1
            if operation.name not in _OPERATIONS:
                raise pickle.UnpicklingError(f"{operation.name} is no part of an array")
            if count > _MAX_OPERATIONS:
                raise pickle.UnpicklingError(f"more than {_MAX_OPERATIONS} operations")
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # cut short, or no pickle at all
        raise pickle.UnpicklingError(f"no whole pickle: {error}") from error
    if end != len(content):
        raise pickle.UnpicklingError(f"{len(content) - end} bytes after its end")


def read_zipped_array(path: str | Path) -> np.ndarray:
    """The array in the one pickle of a zip file: the member whose name has `.pkl` in it.

    Members are read into memory and never extracted; a file, a member or an array of more than
    64 MiB is refused before memory is taken for it.

    Args:
      path: of the zip file.

    Returns:
      The array as it was written, read-only; its shape and values are for the caller to check.

    Raises:
      FeatureFileError: the file is damaged, has no such member or several, or the pickle holds
        anything but one array of numbers.
    """
    path = user_path(path)
    expected = "a zip file with one pickled array"
    try:
        packed = read_bytes(path, PICKLE_BYTES)
        if packed.count(_SIGNATURE) > _MAX_MEMBERS:
            raise zipfile.BadZipFile(f"more than {_MAX_MEMBERS} members")
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return unpickle_array(_member(archive))
    except Exception as error:  # damaged bytes raise of every kind
        found = f"{type(error).__name__}: {error}"
        raise FeatureFileError(path, None, expected, found) from error


def _member(archive: zipfile.ZipFile) -> bytes:
    names = archive.namelist()
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or ":" in name:
            raise zipfile.BadZipFile(f"member {name!r} leaves its folder")
    pickles = [info for info in archive.infolist() if ".pkl" in info.filename]
    if len(pickles) != 1:
        raise zipfile.BadZipFile(f"{len(pickles)} members with .pkl in their names, of {names}")
    if pickles[0].file_size > PICKLE_BYTES:
        raise zipfile.BadZipFile(
            f"a member of {pickles[0].file_size} bytes, more than {PICKLE_BYTES}"
        )
    with archive.open(pickles[0]) as stream:  # stops at the size that was declared
        return stream.read(PICKLE_BYTES + 1)
