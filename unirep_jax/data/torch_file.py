"""Tensors out of a PyTorch checkpoint (.pth, .pt, .bin), without running anything that it says.

A checkpoint is a pickle, and a pickle is a program. Here every name in it stands for an inert
record of what was asked for: no function and no class of any library is ever called. Tensors are
then made of the records that describe them, after a check that they lie within their bytes. Both
formats are read: the zip file of PyTorch 1.6 and later, and the older sequence of pickles.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unirep_jax.data.features import FeatureFileError
from unirep_jax.data.members import check_members

_MAX_PICKLE = 1 << 26  # bytes that describe tensors
_MAX_OPERATIONS = 4_000_000
_MAX_TENSORS = 100_000
_MAX_DEPTH = 16
_MAX_RANK = 8
_MAGIC = 0x1950A86A20F9469CFC6C  # of the older format
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What takes memory or objects from elsewhere.
_FORBIDDEN = {"PERSID", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
_NUMBERED = {"PUT", "BINPUT", "LONG_BINPUT"}  # give an object a number


class _Record:
    """What the pickle would have made: its name, arguments and, if it is a mapping, its entries."""

    name = ""

    def __init__(self, *arguments, **_):
        self.arguments = arguments
        self.entries: dict[Any, Any] = {}
        self.state: Any = None

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.entries[key] = value

    def append(self, item):
        pass

    def extend(self, items):
        pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        return type("_Record", (_Record,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        if not _is_storage(pid):
            raise pickle.UnpicklingError(f"a storage was expected, found {pid!r:.50}")
        _, kind, key, _, count = pid[:5]
        return _Storage(kind.name.rpartition(".")[2], key, count)


def _is_storage(pid: Any) -> bool:
    return (
        isinstance(pid, tuple)
        and len(pid) >= 5
        and pid[0] == "storage"
        and isinstance(pid[1], type)
        and issubclass(pid[1], _Record)
        and isinstance(pid[2], str)
        and type(pid[4]) is int
        and pid[4] >= 0
    )


class _Storage:
    """Where the numbers of tensors are: a kind, a key in the file, and how many they are."""

    def __init__(self, kind: str, key: str, count: int):
        if kind not in _TYPES:
            raise pickle.UnpicklingError(f"storage of a kind that is not read: {kind:.50}")
        self.kind, self.key, self.count = kind, key, count

    @property
    def size(self) -> int:
        return self.count * np.dtype(_TYPES[self.kind]).itemsize

    def numbers(self, content: bytes) -> np.ndarray:
        if len(content) != self.size:
            raise ValueError(f"storage {self.key}: {len(content)} bytes, not {self.size}")
        return np.frombuffer(content, _TYPES[self.kind])


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by name; those in nested dictionaries are called OUTER.INNER.

    bfloat16 becomes float32; other types stay. Whatever is not a tensor is left out.

    Raises:
      FeatureFileError: the file is damaged, is no checkpoint, needs more memory than there is, or a
        tensor reaches beyond its storage.
    """
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would never end
            raise FileNotFoundError("nothing there")
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            return dict(_read_zip(stream) if is_zip else _read_sequence(stream))
    except Exception as error:  # damaged bytes raise of every kind
        found = " ".join(f"{type(error).__name__}: {error}".split())
        raise FeatureFileError(path, None, "a PyTorch checkpoint", found) from error


def _read_zip(stream: BinaryIO) -> Iterator[tuple[str, np.ndarray]]:
    with zipfile.ZipFile(stream) as archive:
        check_members(archive)
        names = archive.namelist()
        (root,) = {n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")}
        order = f"{root}byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("numbers that are not little-endian")
        member = archive.getinfo(f"{root}data.pkl")
        if member.file_size > _MAX_PICKLE:
            raise ValueError(f"a pickle of {member.file_size} bytes")
        found = _load(archive.read(member))
        fetch = lambda storage: storage.numbers(archive.read(f"{root}data/{storage.key}"))
        yield from _tensors(found, fetch)


def _read_sequence(stream: BinaryIO) -> Iterator[tuple[str, np.ndarray]]:
    """Magic number, version, machine, content, and the keys of what follows: counts and numbers."""
    magic, _, machine, found, keys = (_load(_next_pickle(stream)) for _ in range(5))
    if magic != _MAGIC or not isinstance(keys, list) or not isinstance(machine, dict):
        raise ValueError("no checkpoint")
    if machine.get("little_endian") is not True:
        raise ValueError("numbers that are not little-endian")
    storages = {storage.key: storage for storage in _storages(found)}
    numbers = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        storage = storages.get(key)
        if storage is None or storage.count != count:
            raise ValueError(f"storage {key!r:.50} of {count} numbers is no tensor's")
        numbers[key] = storage.numbers(stream.read(storage.size))
    yield from _tensors(found, lambda storage: numbers[storage.key])


def _next_pickle(stream: BinaryIO) -> bytes:
    start = stream.tell()
    head = io.BytesIO(stream.read(_MAX_PICKLE))
    for _ in _operations(head):
        pass
    stream.seek(start)
    return stream.read(head.tell())


def _operations(content: bytes | BinaryIO) -> Iterator[None]:
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name in _FORBIDDEN or count > _MAX_OPERATIONS:
            raise pickle.UnpicklingError(f"{operation.name} after {count} operations")
        if operation.name in _NUMBERED and not 0 <= (argument or 0) <= count:
            # The unpickler's table of objects grows to this number, however few there are.
            raise pickle.UnpicklingError(f"object {argument} after {count} operations")
        yield


def _load(content: bytes) -> Any:
    for _ in _operations(content):
        pass
    return _Unpickler(io.BytesIO(content)).load()


def _walk(found: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, _Record | None]]:
    """The records of tensors by name; None for whatever else is looked at on the way."""
    if depth > _MAX_DEPTH:
        raise ValueError("dictionaries too deep in one another")
    tensor = _tensor_record(found)
    yield name, tensor
    if tensor is not None:
        return
    entries: Any = ()
    if isinstance(found, Mapping):
        entries = found.items()
    elif isinstance(found, _Record):
        entries = found.entries.items()
    elif isinstance(found, list | tuple):
        entries = enumerate(found)
    for key, value in entries:
        if isinstance(key, str | int):
            yield from _walk(value, f"{name}.{key}" if name else str(key), depth + 1)


def _tensor_record(found: Any) -> _Record | None:
    if not isinstance(found, _Record):
        return None
    function = found.name.rpartition(".")[2]
    if function in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        return _tensor_record(found.arguments[0]) if found.arguments else None
    known = function in ("_rebuild_tensor", "_rebuild_tensor_v2") and len(found.arguments) >= 4
    return found if known else None


def _limited(found: Any) -> Iterator[tuple[str, _Record]]:
    count = 0
    for looked_at, (name, record) in enumerate(_walk(found)):
        count += record is not None
        if count > _MAX_TENSORS or looked_at > _MAX_OPERATIONS:  # a part may come again and again
            raise ValueError(f"more than {_MAX_TENSORS} tensors, or {_MAX_OPERATIONS} entries")
        if record is not None:
            yield name, record


def _storages(found: Any) -> Iterator[_Storage]:
    for _, record in _limited(found):
        if isinstance(record.arguments[0], _Storage):
            yield record.arguments[0]


def _tensors(
    found: Any, fetch: Callable[[_Storage], np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    for name, record in _limited(found):
        storage, offset, shape, strides = record.arguments[:4]
        lengths = (*shape, *strides, offset)
        good = (
            isinstance(storage, _Storage)
            and len(shape) == len(strides) <= _MAX_RANK
            and all(type(n) is int and n >= 0 for n in lengths)
        )
        if not good:
            raise ValueError(f"{name}: not the description of a tensor")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if count and (last >= storage.count or count > storage.count):
            raise ValueError(f"{name}: reaches beyond its {storage.count} numbers")
        numbers = fetch(storage)
        if not count:
            yield name, np.zeros(shape, numbers.dtype)
            continue
        apart = tuple(s * numbers.itemsize for s in strides)
        tensor = np.lib.stride_tricks.as_strided(numbers[offset:], shape, apart)
        yield name, _float32_of(tensor) if storage.kind == "BFloat16Storage" else tensor.copy()


def _float32_of(bfloat16: np.ndarray) -> np.ndarray:
    return (bfloat16.astype("<u4") << 16).view("<f4")
