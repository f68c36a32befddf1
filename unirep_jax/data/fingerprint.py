"""A fingerprint of a feature set, by which a resumed run checks that its data are the same."""

import contextlib
import hashlib
import json
import mmap
from collections.abc import Iterator

import numpy as np

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.mapped import chunks

_VERSION = "unirep_jax fingerprint 1"
_WHOLE_BYTES = 1 << 26  # a modality up to this size is hashed in full
_SAMPLED_ROWS = 1024
_ROW_BYTES = 1 << 16  # of a sampled row, from its start


def fingerprint(feature_set: FeatureSet) -> str:
    """A hash by which two feature sets are told apart, 64 hexadecimal digits.

    It covers modality names in their order, kinds, dtypes and shapes, class names, and every value
    of `label`, `train`, `group` and `present`. Of the features it covers every value of a modality
    of up to 64 MiB; of a larger one the first 64 KiB of 1,024 rows, whose choice depends on the
    number of rows alone. So it costs at most 64 MiB of reading per modality however large the set
    is, and a change that is confined to other rows of a large modality goes unnoticed.

    Rows of absent modalities may hold anything and do not count; neither do the name of the set,
    byte order, memory layout, or whether the features lie in a file, a folder or in memory.
    """
    digest, kinds = hashlib.sha256(), feature_set.kinds
    head = {
        "version": _VERSION,
        "modalities": [
            [modality, kinds[modality].value, array.dtype.newbyteorder("<").str, list(array.shape)]
            for modality, array in feature_set.features.items()
        ],
        "class_names": list(feature_set.class_names),
    }
    if feature_set.captions:
        head["captions"] = feature_set.captions
    digest.update(json.dumps(head).encode())  # escapes what UTF-8 cannot encode
    for column in (feature_set.label, feature_set.train, feature_set.group):
        _update(digest, column)
    for modality, array in feature_set.features.items():
        present = feature_set.present[modality]
        _update(digest, present)
        _update_features(digest, array, present)
    return digest.hexdigest()


def _update_features(digest, array: np.ndarray, present: np.ndarray) -> None:
    if array.nbytes <= _WHOLE_BYTES:
        for chunk in chunks(len(array), max(1, array[0].nbytes)):
            _update(digest, array[chunk][present[chunk]])
        return
    values = max(1, _ROW_BYTES // array.dtype.itemsize)
    # Ascending, so that a memory-mapped file is read from front to back.
    draws = np.random.Philox(key=0).random_raw(_SAMPLED_ROWS) % np.uint64(len(array))
    with _random_access(array):
        for row in np.unique(draws).astype(np.int64):
            if present[row]:
                _update(digest, array[row].reshape(-1)[:values])


@contextlib.contextmanager
def _random_access(array: np.ndarray) -> Iterator[None]:
    """Tells the system not to read ahead in the file of an array, if it has one.

    Where a page of a memory map brings the next 8 MiB with it, 1,024 rows would be 8 GiB.
    """
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_RANDOM"):
        yield
        return
    base.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        base.madvise(mmap.MADV_NORMAL)


def _update(digest, array: np.ndarray) -> None:
    little = array.dtype.newbyteorder("<")
    digest.update(np.ascontiguousarray(array, little).view(np.uint8))
