"""What a feature set has to be, checked; errors name file and key."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.kinds import Kind, is_words, kind_of
from unirep_jax.data.limits import (
    EXAMPLE_BYTES,
    MAX_CLASSES,
    MAX_EXAMPLES,
    MAX_MODALITIES,
    MAX_MODALITY_NAME,
    MAX_NAME,
    MAX_VOCABULARY,
)
from unirep_jax.data.mapped import chunks

if TYPE_CHECKING:
    from unirep_jax.data.features import FeatureSet

_MODALITY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # also what keeps a name from leaving its folder


def check(feature_set: "FeatureSet", source: str | Path) -> None:
    """Raises FeatureFileError unless everything is as `FeatureSet` says."""
    _check_sizes(feature_set, source)
    count = len(feature_set.label)
    if len(feature_set.features) < 2:
        found = ", ".join(feature_set.features) or "none"
        raise FeatureFileError(source, "modality", "two modalities or more", found)
    for modality, array in feature_set.features.items():
        _check_features(modality, array, count, source)
    columns: dict[str, tuple[np.ndarray, type]] = {
        "label": (feature_set.label, np.int32),
        "group": (feature_set.group, np.int32),
        "train": (feature_set.train, bool),
    }
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
    if feature_set.captions not in ("", *feature_set.features):
        names = ", ".join(feature_set.features)
        raise FeatureFileError(source, "captions", f"one of {names}", repr(feature_set.captions))
    for modality, array in feature_set.features.items():
        _check_values(modality, array, feature_set.present[modality], source)


def _check_sizes(feature_set: "FeatureSet", source: str | Path) -> None:
    numbers = {
        "label": (len(feature_set.label), MAX_EXAMPLES, "examples"),
        "modality": (len(feature_set.features), MAX_MODALITIES, "modalities"),
        "class_name": (feature_set.num_classes, MAX_CLASSES, "classes"),
    }
    for key, (count, limit, what) in numbers.items():
        if count > limit:
            raise FeatureFileError(source, key, f"{limit} {what} or fewer", str(count))
    longest = max(map(len, feature_set.class_names), default=0)
    if longest > MAX_NAME:
        raise FeatureFileError(source, "class_name", f"{MAX_NAME} characters", str(longest))


def check_kind(modality: str, kind: Kind, array: np.ndarray | None, source: str | Path) -> None:
    key = f"kind/{modality}"
    if array is None:
        raise FeatureFileError(source, key, "a modality of the set", repr(modality))
    if not kind.fits(array):
        raise FeatureFileError(source, key, str(kind), f"{array.dtype} {array.shape}")


def _check_features(modality: str, array: np.ndarray, count: int, source: str | Path) -> None:
    key = f"modality/{modality}"
    if not _MODALITY.fullmatch(modality) or len(modality) > MAX_MODALITY_NAME:
        expected = f"a name of up to {MAX_MODALITY_NAME} letters, digits and _"
        raise FeatureFileError(source, key, expected, repr(modality[: 2 * MAX_MODALITY_NAME]))
    plain_float = array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8)
    if not plain_float and not is_words(array):
        expected = "float16, float32 or float64, or integers that are word ids"
        raise FeatureFileError(source, key, expected, str(array.dtype))
    if kind_of(array) is None or 0 in array.shape[1:]:
        kinds = "; ".join(str(kind) for kind in Kind)
        raise FeatureFileError(source, key, kinds, f"{array.dtype} {array.shape}")
    if len(array) != count:
        raise FeatureFileError(source, key, f"{count} examples as in label", str(len(array)))
    if 4 * math.prod(array.shape[1:]) > EXAMPLE_BYTES:
        raise FeatureFileError(source, key, "examples of 1 GiB or less", f"shape {array.shape}")


def _check_values(
    modality: str, array: np.ndarray, present: np.ndarray, source: str | Path
) -> None:
    """Where the modality is present, floats are finite and word ids are such."""
    words = is_words(array)
    expected = "finite float32 values where present"
    if words:
        expected = f"word ids of 0 … {MAX_VOCABULARY - 1} where present"
    for chunk in chunks(len(array), max(1, array[0].nbytes)):
        if words:
            values = np.asarray(array[chunk])
            good = (values >= 0) & (values < MAX_VOCABULARY)
        else:
            with np.errstate(over="ignore"):  # float64 beyond float32 is infinite to the reader
                values = np.asarray(array[chunk], np.float32)
            good = np.isfinite(values)
        good = good.reshape(len(values), -1)
        bad = present[chunk] & ~good.all(axis=1)
        if bad.any():
            row = np.argmax(bad)
            found = f"{values[row].flat[np.argmin(good[row])]} in row {chunk.start + row}"
            raise FeatureFileError(source, f"modality/{modality}", expected, found)
