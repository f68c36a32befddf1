"""Instance-paired features of several modalities: one type, and the format it is kept in."""

import contextlib
import dataclasses
import math
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from unirep_jax.data.mapped import chunks, write_file
from unirep_jax.data.members import check_members

_MODALITY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # also what keeps a name from leaving its folder
_KINDS = {"boolean": "b", "integer": "iu", "float": "f", "number": "iuf", "string": "U"}
_KEYS = "modality/NAME, present/NAME of such a modality, label, split, train, group, class_name"
_Shape = tuple[int | None, ...] | None  # None for an axis of any length
_STATISTICS_EXAMPLES = 4096
_EXAMPLE_BYTES = 1 << 30  # of one modality, as float32
_UNNAMED_CLASSES = 100_000  # labels beyond are not class numbers unless the names are given


class FeatureFileError(ValueError):
    """Unusable features: says where (file and key), what was expected and what was found."""

    def __init__(self, source: str | Path, key: str | None, expected: str, found: str):
        super().__init__(str(source), key, expected, found)

    def __str__(self) -> str:
        source, key, expected, found = self.args
        where = source if key is None else f"{source}: {key}"
        return f"{where}: expected {expected}, found {found}"


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of N examples, each seen through two or more modalities.

    features: modality -> [example, dim] vectors, [example, time, dim] sequences or
      [example, time, height, width, dim] maps; float16, 32 or 64, possibly memory-mapped.
    label: int32 [example], −1 = unlabelled. train: bool [example].
    present: modality -> bool [example]. group: int32 [example], for instance the person.
    """

    name: str
    features: dict[str, np.ndarray]
    label: np.ndarray
    train: np.ndarray
    present: dict[str, np.ndarray]
    group: np.ndarray
    class_names: tuple[str, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @classmethod
    def from_arrays(
        cls,
        name: str,
        features: Mapping[str, np.ndarray],
        label: np.ndarray,
        train: np.ndarray,
        *,
        present: Mapping[str, np.ndarray] | None = None,
        group: np.ndarray | None = None,
        class_names: tuple[str, ...] | None = None,
        source: str | Path | None = None,
    ) -> "FeatureSet":
        """A checked feature set; what is left out takes its default.

        Args:
          name: of the data set.
          features: modality -> [example, ...], in the order that `modalities` keeps.
          label: integers [example].
          train: bool [example].
          present: modality -> bool [example]; everything is present where it is not given.
          group: integers [example]; by default every example is a group of its own.
          class_names: by default the numbers 0 … max(label).
          source: what errors call these features, for instance their file.

        Raises:
          FeatureFileError: anything is not as `FeatureSet` says.
        """
        source = f"feature set {name!r}" if source is None else source
        label = _int32(label, "label", source)
        group = np.arange(len(label)) if group is None else group
        if class_names is None:
            largest = int(label.max(initial=-1))
            if largest >= _UNNAMED_CLASSES:
                limit = f"labels below {_UNNAMED_CLASSES} where no class_name is given"
                raise FeatureFileError(source, "label", limit, str(largest))
            class_names = tuple(str(i) for i in range(largest + 1))
        everywhere = {modality: np.ones(len(label), bool) for modality in features}
        feature_set = cls(
            name=name,
            features=dict(features),
            label=label,
            train=np.asarray(train),
            present=everywhere | {m: np.asarray(p) for m, p in (present or {}).items()},
            group=_int32(group, "group", source),
            class_names=tuple(str(c) for c in class_names),
        )
        _check(feature_set, source)
        return feature_set


def load_features(path: str | Path, name: str | None = None) -> FeatureSet:
    """Features from an `.npz` file, or memory-mapped from a folder of `.npy` files.

    Keys: `modality/NAME` (two or more), `label`, `split` ('train' / 'test') or `train` (bool), and
    optionally `present/NAME`, `group`, `class_name`. A folder holds `modality/NAME.npy` and so on;
    modalities come in the order of the file, in a folder in that of the alphabet.

    Args:
      path: file or folder.
      name: of the data set; by default that of the file.

    Raises:
      FeatureFileError: the file cannot be read, or holds anything but the above. NaN and infinity
        are allowed only in rows of absent modalities; every present row is read once to see.
    """
    with Archive(path) as archive:
        names = [
            key.removeprefix("modality/") for key in archive.keys if key.startswith("modality/")
        ]
        known = {"label", "split", "train", "group", "class_name"}
        known |= {f"{kind}/{modality}" for kind in ("modality", "present") for modality in names}
        for key in archive.keys:
            if key not in known:
                raise FeatureFileError(path, key, f"one of {_KEYS}", "none of these")
        label = archive.read("label", "integer", (None,))
        count = len(label)
        present = {m: archive.find(f"present/{m}", "boolean", (count,)) for m in names}
        return FeatureSet.from_arrays(
            Path(path).stem if name is None else name,
            {m: archive.read(f"modality/{m}", "float", memory_map=True) for m in names},
            label,
            _read_split(archive, count),
            present={m: array for m, array in present.items() if array is not None},
            group=archive.find("group", "integer", (count,)),
            class_names=archive.find("class_name", "string", (None,)),
            source=path,
        )


def save_features(path: str | Path, feature_set: FeatureSet) -> None:
    """Writes what `load_features` reads: one file if `path` ends in `.npz`, else a folder.

    Everything is written beside `path` and then renamed, so a reader sees all or nothing. A file is
    replaced; a folder, which no file system replaces in one go, must not exist yet.

    Raises:
      FeatureFileError: the features would not load again.
      FileExistsError: `path` is an existing folder.
    """
    path = Path(path)
    _check(feature_set, path)
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder that exists; remove it or choose another name")
    arrays = {f"modality/{modality}": array for modality, array in feature_set.features.items()}
    arrays |= {f"present/{m}": p for m, p in feature_set.present.items() if not p.all()}
    arrays["label"] = feature_set.label
    arrays["split"] = np.where(feature_set.train, "train", "test")
    arrays["group"] = feature_set.group
    arrays["class_name"] = np.array(feature_set.class_names, dtype=np.str_)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.suffix == ".npz":
            write_file(beside, lambda file: np.savez(file, **arrays))
        else:
            for key, array in arrays.items():
                file = beside / f"{key}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                save = lambda stream, array=array: np.save(stream, array, allow_pickle=False)
                write_file(file, save)
        beside.replace(path)
    except BaseException:
        shutil.rmtree(beside) if beside.is_dir() else beside.unlink(missing_ok=True)
        raise


def standardization(feature_set: FeatureSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of every channel (last axis) over present training examples.

    At most 4,096 examples count, evenly spaced; sums are taken in float64, a chunk at a time. A
    constant channel has standard deviation 1; a modality that no training example has, mean 0 and
    standard deviation 1.

    Returns:
      modality -> (mean, standard deviation), float32 [dim] each.
    """
    statistics = {}
    for modality, array in feature_set.features.items():
        rows = np.flatnonzero(feature_set.train & feature_set.present[modality])
        if len(rows) > _STATISTICS_EXAMPLES:
            rows = rows[np.linspace(0, len(rows) - 1, _STATISTICS_EXAMPLES).astype(int)]
        count, mean, squares = 0, np.zeros(array.shape[-1]), np.zeros(array.shape[-1])
        for chunk in chunks(len(rows), 8 * array[0].size):
            values = np.asarray(array[rows[chunk]], np.float64).reshape(-1, array.shape[-1])
            # Means of chunks are merged (Chan et al., 1983): Σx² − (Σx)²/n would cancel.
            chunk_mean = values.mean(axis=0)
            distance = chunk_mean - mean
            total = count + len(values)
            squares += ((values - chunk_mean) ** 2).sum(axis=0)
            squares += distance**2 * (count * len(values) / total)
            mean += distance * (len(values) / total)
            count = total
        deviation = np.sqrt(squares / max(count, 1))
        # Rounding gives a constant channel a deviation of about 1e-16 of its value.
        constant = deviation <= np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
        deviation[constant] = 1
        statistics[modality] = (mean.astype(np.float32), deviation.astype(np.float32))
    return statistics


class Archive:
    """Arrays by key from an `.npz` file or a folder of `.npy` files; nothing is ever unpickled.

    Use as a context manager. `keys` are in the order of the file, of the alphabet in a folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._files: dict[str, Path] = {}
        self._npz = None
        self._stack = contextlib.ExitStack()
        if self.path.is_dir():
            files = sorted(self.path.rglob("*.npy"))
            self._files = {f.relative_to(self.path).with_suffix("").as_posix(): f for f in files}
            self.keys = tuple(self._files)
            for key, file in self._files.items():
                if not file.is_file():  # a pipe would never end
                    raise FeatureFileError(path, key, "a file", "a link to nothing, or another")
            return
        expected = "an .npz file or a folder of .npy files"
        if not self.path.is_file():
            raise FeatureFileError(path, None, expected, "nothing there")
        with self._errors(None, expected), contextlib.ExitStack() as stack:
            # Given a path, NumPy leaves its file open when the archive is damaged.
            self._npz = np.load(stack.enter_context(self.path.open("rb")), allow_pickle=False)
            if not isinstance(self._npz, np.lib.npyio.NpzFile):
                raise TypeError("a single array")
            check_members(self._npz.zip)
            self.keys = tuple(self._npz.files)
            self._stack = stack.pop_all()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def read(
        self, key: str, kind: str, shape: _Shape = None, *, memory_map: bool = False
    ) -> np.ndarray:
        """The array of `key`, which must be of `kind` (boolean, integer, float, number or string).

        Args:
          key: its name; in a folder without the suffix.
          kind: of its dtype.
          shape: what it must be; by default anything.
          memory_map: leave a file of a folder on disk until it is used.

        Raises:
          FeatureFileError: the key is missing or unreadable, or the array is something else.
        """
        if key not in self.keys:
            raise FeatureFileError(self.path, key, "this key", f"only {', '.join(self.keys)}")
        with self._errors(key, "a plain, complete array"):
            if self._npz is not None:
                array = self._npz[key]
            else:
                mode = "r" if memory_map else None
                array = np.load(self._files[key], mmap_mode=mode, allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _KINDS[kind]:
            found = str(getattr(array, "dtype", "no array at all"))
            raise FeatureFileError(self.path, key, f"a {kind} array", found)
        if shape is not None and (
            array.ndim != len(shape)
            or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True))
        ):
            lengths = ", ".join("any" if length is None else str(length) for length in shape)
            found = f"shape {array.shape}"
            raise FeatureFileError(self.path, key, f"shape ({lengths})", found)
        return array

    def find(self, key: str, kind: str, shape: _Shape = None) -> np.ndarray | None:
        """`read`, or None where there is no such key."""
        return self.read(key, kind, shape) if key in self.keys else None

    @contextlib.contextmanager
    def _errors(self, key: str | None, expected: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # damaged bytes raise of every kind, from zipfile to tokenize
            found = f"{type(error).__name__}: {error}"
            raise FeatureFileError(self.path, key, expected, found) from error


def _read_split(archive: Archive, count: int) -> np.ndarray:
    """bool [example] from `split` or `train`, of which a file must have one."""
    train = archive.find("train", "boolean", (count,))
    if train is not None:
        if "split" in archive.keys:
            raise FeatureFileError(archive.path, "train", "either split or train", "both")
        return train
    split = archive.read("split", "string", (count,))
    for value in np.unique(split):
        if value not in ("train", "test"):
            found = f"{str(value)!r} in row {np.argmax(split == value)}"
            raise FeatureFileError(archive.path, "split", "'train' or 'test'", found)
    return split == "train"


def _int32(array: np.ndarray, key: str, source: str | Path) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise FeatureFileError(source, key, "integers (any)", f"{array.dtype} {array.shape}")
    limits = np.iinfo(np.int32)
    for value in (array.min(initial=0), array.max(initial=0)):
        if not limits.min <= int(value) <= limits.max:
            raise FeatureFileError(source, key, "values that fit int32", str(value))
    return array.astype(np.int32)


def _check(feature_set: FeatureSet, source: str | Path) -> None:
    """Raises FeatureFileError unless everything is as `FeatureSet` says."""
    count = len(feature_set.label)
    if len(feature_set.features) < 2:
        found = ", ".join(feature_set.features) or "none"
        raise FeatureFileError(source, "modality", "two modalities or more", found)
    for modality, array in feature_set.features.items():
        _check_features(modality, array, count, source)
    columns = {"label": (feature_set.label, np.int32), "group": (feature_set.group, np.int32)}
    columns["train"] = (feature_set.train, bool)
    columns |= {f"present/{m}": (array, bool) for m, array in feature_set.present.items()}
    for key, (array, dtype) in columns.items():
        if array.dtype != dtype or array.shape != (count,):
            found = f"{array.dtype} {array.shape}"
            raise FeatureFileError(source, key, f"{np.dtype(dtype)} ({count},)", found)
    if feature_set.present.keys() != feature_set.features.keys():
        modalities = f"the modalities {', '.join(feature_set.features)}"
        raise FeatureFileError(source, "present", modalities, ", ".join(feature_set.present))
    outside = (feature_set.label < -1) | (feature_set.label >= feature_set.num_classes)
    if outside.any():
        row = np.argmax(outside)
        limits = f"−1 … {feature_set.num_classes - 1} for {feature_set.num_classes} classes"
        raise FeatureFileError(source, "label", limits, f"{feature_set.label[row]} in row {row}")
    for part, rows in (("train", feature_set.train), ("test", ~feature_set.train)):
        if not rows.any():
            raise FeatureFileError(source, "split", f"at least one {part} example", "none")
    nothing = ~np.any(list(feature_set.present.values()), axis=0)
    if nothing.any():
        found = f"none in row {np.argmax(nothing)}"
        raise FeatureFileError(source, "present", "a present modality in every example", found)
    for modality, array in feature_set.features.items():
        _check_finite(modality, array, feature_set.present[modality], source)


def _check_features(modality: str, array: np.ndarray, count: int, source: str | Path) -> None:
    key = f"modality/{modality}"
    if not _MODALITY.fullmatch(modality):
        raise FeatureFileError(source, key, "a name of letters, digits and _", repr(modality))
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise FeatureFileError(source, key, "float16, float32 or float64", str(array.dtype))
    if array.ndim not in (2, 3, 5) or 0 in array.shape[1:]:
        shapes = "[example, dim], [example, time, dim] or [example, time, height, width, dim]"
        raise FeatureFileError(source, key, shapes, f"shape {array.shape}")
    if len(array) != count:
        raise FeatureFileError(source, key, f"{count} examples as in label", str(len(array)))
    if 4 * math.prod(array.shape[1:]) > _EXAMPLE_BYTES:
        raise FeatureFileError(source, key, "examples of 1 GiB or less", f"shape {array.shape}")


def _check_finite(
    modality: str, array: np.ndarray, present: np.ndarray, source: str | Path
) -> None:
    for chunk in chunks(len(array), array[0].nbytes):
        with np.errstate(over="ignore"):  # float64 beyond float32 is infinite to the reader
            values = np.asarray(array[chunk], np.float32)
        finite = np.isfinite(values).reshape(len(values), -1)
        bad = present[chunk] & ~finite.all(axis=1)
        if bad.any():
            row = np.argmax(bad)
            found = f"{values[row].flat[np.argmin(finite[row])]} in row {chunk.start + row}"
            expected = "finite float32 values where present"
            raise FeatureFileError(source, f"modality/{modality}", expected, found)
