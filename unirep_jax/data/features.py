"""Instance-paired features of several modalities: one type, and the format it is kept in."""

import dataclasses
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from unirep_jax.data.archive import Archive, FeatureFileError
from unirep_jax.data.feature_checks import check, check_kind
from unirep_jax.data.files import user_path
from unirep_jax.data.kinds import Kind, kind_of
from unirep_jax.data.limits import MAX_CLASSES, MAX_NAME
from unirep_jax.data.mapped import write_file
from unirep_jax.data.safe_text import safe_text

_KEYS = (
    "modality/NAME, present/NAME or kind/NAME of such a modality, label, split, train, group, "
    "class_name, captions"
)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of N examples, each seen through two or more modalities.

    features: modality -> [example, ...] of one `Kind`: float16, 32 or 64, or integers where they
      are word ids; possibly memory-mapped.
    label: int32 [example], −1 = unlabelled. train: bool [example].
    present: modality -> bool [example]. group: int32 [example], for instance the person.
    declared: modality -> kind, of those whose kind type and shape do not tell.
    captions: a modality of which an item has several rows, equal in `group`, as a clip has several
      captions; the rows of the others repeat. "" where every row is an item of its own.
    """

    name: str
    features: dict[str, np.ndarray]
    label: np.ndarray
    train: np.ndarray
    present: dict[str, np.ndarray]
    group: np.ndarray
    class_names: tuple[str, ...]
    declared: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    captions: str = ""

    @property
    def kinds(self) -> dict[str, Kind]:
        """What every modality is made of.

        A kind that was declared counts as long as the features are of its shape: they may have
        been replaced by embeddings of the same modality.
        """
        found = {}
        for modality, array in self.features.items():
            kind = self.declared.get(modality)
            # Checked features have a kind.
            found[modality] = kind if kind and kind.fits(array) else cast(Kind, kind_of(array))
        return found

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def items(self, rows: np.ndarray) -> int:
        """How many items the examples of a mask, bool [example], are views of."""
        return len(np.unique(self.group[rows])) if self.captions else int(rows.sum())

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
        kinds: Mapping[str, Kind] | None = None,
        captions: str = "",
        source: str | Path | None = None,
    ) -> "FeatureSet":
        """A checked feature set; what is left out takes its default.

        Args:
          name: of the data set; made `safe_text`, as `class_names` are.
          features: modality -> [example, ...], in the order that `modalities` keeps; what NumPy
            makes an array of, as a jax.Array or a list, is one then.
          label: integers [example].
          train: bool [example].
          present: modality -> bool [example]; everything is present where it is not given.
          group: integers [example]; by default every example is a group of its own.
          class_names: by default the numbers 0 … max(label).
          kinds: modality -> kind, where type and shape do not tell it: a spectrogram.
          captions: the modality of which the rows of a group are views of one item.
          source: what errors call these features, for instance their file.

        Raises:
          FeatureFileError: anything is not as `FeatureSet` says.
        """
        source = f"feature set {name!r}" if source is None else source
        label = _int32(label, "label", source)
        group = np.arange(len(label)) if group is None else group
        if class_names is None:
            class_names = _numbers(label, source)
        everywhere = {modality: np.ones(len(label), bool) for modality in features}
        plain = {m: _plain(p, f"present/{m}", source) for m, p in (present or {}).items()}
        feature_set = cls(
            name=safe_text(name),
            features={m: _plain(x, f"modality/{m}", source) for m, x in features.items()},
            label=label,
            train=_plain(train, "train", source),
            present=everywhere | plain,
            group=_int32(group, "group", source),
            class_names=tuple(safe_text(str(c)) for c in class_names),
            declared=dict(kinds or {}),
            captions=captions,
        )
        check(feature_set, source)
        for modality, kind in feature_set.declared.items():
            check_kind(modality, kind, feature_set.features.get(modality), source)
        return feature_set


def load_features(path: str | Path, name: str | None = None) -> FeatureSet:
    """Features from an `.npz` file, or memory-mapped from a folder of `.npy` files.

    Keys: `modality/NAME` (two or more), `label`, `split` ('train' / 'test') or `train` (bool), and
    optionally `present/NAME`, `kind/NAME`, `group`, `class_name`, `captions`. A folder holds
    `modality/NAME.npy` and so on; modalities come in the order of the file, in a folder in that of
    the alphabet.

    Args:
      path: file or folder; ~ is the home.
      name: of the data set; by default that of the file.

    Raises:
      FeatureFileError: the file cannot be read, or holds anything but the above. NaN and infinity
        are allowed only in rows of absent modalities; every present row is read once to see.
    """
    path = user_path(path)
    with Archive(path) as archive:
        if not archive.keys:
            expected = "an .npz file or a folder of .npy files"
            raise FeatureFileError(path, None, expected, "one without any array")
        names = modality_names(archive)
        known = {"label", "split", "train", "group", "class_name", "captions"}
        known |= {f"{part}/{m}" for part in ("modality", "present", "kind") for m in names}
        for key in archive.keys:
            if key not in known:
                raise FeatureFileError(path, key, f"one of {_KEYS}", "none of these")
        label = archive.read("label", "integer", (None,))
        return FeatureSet.from_arrays(
            path.stem if name is None else name,
            label=label,
            train=_read_split(archive, len(label)),
            **read_columns(archive, len(label)),
            source=path,
        )


def modality_names(archive: Archive) -> list[str]:
    """The modalities that a feature file has, in its order."""
    keys = (key for key in archive.keys if key.startswith("modality/"))
    return [key.removeprefix("modality/") for key in keys]


def read_columns(archive: Archive, count: int) -> dict[str, Any]:
    """All of a feature file but label and split, as arguments of `FeatureSet.from_arrays`."""
    names = modality_names(archive)
    present = {m: archive.find(f"present/{m}", "boolean", (count,)) for m in names}
    return {
        "features": {m: archive.read(f"modality/{m}", "number", memory_map=True) for m in names},
        "present": {m: array for m, array in present.items() if array is not None},
        "group": archive.find("group", "integer", (count,)),
        "class_names": archive.find(
            "class_name", "string", (None,), max_rows=MAX_CLASSES, max_text=MAX_NAME
        ),
        "kinds": {m: _read_kind(archive, m) for m in names if f"kind/{m}" in archive.keys},
        "captions": _read_captions(archive),
    }


def _read_captions(archive: Archive) -> str:
    found = archive.find("captions", "string", (), max_text=MAX_NAME)
    return "" if found is None else str(found)


def _read_kind(archive: Archive, modality: str) -> Kind:
    key = f"kind/{modality}"
    value = str(archive.read(key, "string", (), max_text=MAX_NAME))
    if value not in [kind.value for kind in Kind]:
        names = ", ".join(kind.value for kind in Kind)
        raise FeatureFileError(archive.path, key, f"one of {names}", repr(value))
    return Kind(value)


def save_features(path: str | Path, feature_set: FeatureSet) -> None:
    """Writes what `load_features` reads: one file if `path` ends in `.npz`, else a folder.

    Everything is written beside `path` and then renamed, so a reader sees all or nothing. A file is
    replaced; a folder, which no file system replaces in one go, must not exist yet.

    Raises:
      FeatureFileError: the features would not load again.
      FileExistsError: `path` is an existing folder.
    """
    path = user_path(path)
    check(feature_set, path)
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder that exists; remove it or choose another name")
    arrays: dict[str, Any] = {
        f"modality/{modality}": array for modality, array in feature_set.features.items()
    }
    arrays |= {f"present/{m}": p for m, p in feature_set.present.items() if not p.all()}
    kinds = feature_set.kinds
    arrays |= {
        f"kind/{m}": np.array(kinds[m].value)
        for m, array in feature_set.features.items()
        if kinds[m] is not kind_of(array)
    }
    arrays["label"] = feature_set.label
    arrays["split"] = np.where(feature_set.train, "train", "test")
    arrays["group"] = feature_set.group
    arrays["class_name"] = np.array(feature_set.class_names, dtype=np.str_)
    if feature_set.captions:
        arrays["captions"] = np.array(feature_set.captions)
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


def _read_split(archive: Archive, count: int) -> np.ndarray:
    """bool [example] from `split` or `train`, of which a file must have one."""
    train = archive.find("train", "boolean", (count,))
    if train is not None:
        if "split" in archive.keys:
            raise FeatureFileError(archive.path, "train", "either split or train", "both")
        return train
    split = archive.read("split", "string", (count,), max_text=MAX_NAME)
    train = split == "train"
    other = ~train & (split != "test")
    if other.any():
        row = np.argmax(other)
        found = f"{str(split[row])!r} in row {row}"
        raise FeatureFileError(archive.path, "split", "'train' or 'test'", found)
    return train


def _plain(array: Any, key: str, source: str | Path) -> np.ndarray:
    """An array of NumPy itself, memory-mapped or not."""
    if isinstance(array, np.memmap):
        return array
    if np.ma.is_masked(array):
        raise FeatureFileError(source, key, "an array without mask", "one with masked values")
    try:
        return np.asarray(array)
    except (ValueError, TypeError) as error:  # a list of lists of different lengths
        raise FeatureFileError(source, key, "an array", str(error)) from error


def _int32(array: Any, key: str, source: str | Path) -> np.ndarray:
    array = _plain(array, key, source)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise FeatureFileError(source, key, "integers (any)", f"{array.dtype} {array.shape}")
    limits = np.iinfo(np.int32)
    for value in (array.min(initial=0), array.max(initial=0)):
        if not limits.min <= int(value) <= limits.max:
            raise FeatureFileError(source, key, "values that fit int32", str(value))
    return array.astype(np.int32)


def _numbers(label: np.ndarray, source: str | Path) -> tuple[str, ...]:
    """The numbers 0 … max(label) as names."""
    largest = int(label.max(initial=-1))
    if largest >= MAX_CLASSES:
        limit = f"labels below {MAX_CLASSES} where no class_name is given"
        raise FeatureFileError(source, "label", limit, str(largest))
    return tuple(str(i) for i in range(largest + 1))
