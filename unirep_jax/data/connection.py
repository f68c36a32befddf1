"""Two contrastive spaces to connect, as a folder of embedding banks: the streams of C-MCR."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unirep_jax.data.bank_files import SUFFIXES
from unirep_jax.data.banks import Bank, open_bank
from unirep_jax.data.features import Archive, FeatureFileError, FeatureSet
from unirep_jax.data.files import user_path
from unirep_jax.data.mapped import chunks, scratch_array

_STREAM = re.compile(r"([A-Za-z][A-Za-z0-9_]*)_([12])")
_STREAMS = "SHARED_1, OTHER_1, SHARED_2, OTHER_2"


def load_connection(path: str | Path) -> FeatureSet:
    """The streams of both spaces, training rows first, in a scratch file on disk.

    `train/` holds four banks of equally many rows, named SHARED_1, OTHER_1, SHARED_2 and OTHER_2:
    text_1, image_1, text_2 and audio_2 where space 1 embeds texts and images, space 2 texts and
    sounds. Row i of each belongs to text i. `test/` holds the true pairs to evaluate: all four, or
    the two others alone, whose shared modality is then absent. `test/label.npy` [test] and
    `test/class_name.npy` are optional; training rows have no label.

    Args:
      path: the folder. Banks have any form that `open_bank` reads.

    Raises:
      FeatureFileError: a bank is missing, unreadable or not of these, or their shapes do not fit.
    """
    path = user_path(path)
    train, test = (_open_banks(path / part) for part in ("train", "test"))
    shared, others = _roles(path / "train", train)
    if {*test} not in ({*train}, {*others}):
        expected = f"the banks {', '.join(train)}, or {' and '.join(others)} alone"
        raise FeatureFileError(path / "test", None, expected, ", ".join(test))
    trained, tested = (
        _count(path / part, banks) for part, banks in (("train", train), ("test", test))
    )
    here = np.arange(trained + tested) < trained
    with Archive(path / "test") as archive:
        label = archive.find("label", "integer", (tested,))
        class_names = archive.find("class_name", "string", (None,))
    label = np.full(tested, -1) if label is None else label.astype(np.int64)
    absent = set(shared) - set(test)
    return FeatureSet.from_arrays(
        path.name,
        {m: _join(path, m, train[m], test.get(m), len(here)) for m in train},
        np.concatenate([np.full(trained, -1), label]),
        here,
        present=dict.fromkeys(absent, here),
        class_names=None if class_names is None else tuple(class_names),
        source=path,
    )


def _open_banks(folder: Path) -> dict[str, Bank]:
    """The banks of a folder by the names of their files."""
    if not folder.is_dir():
        raise FeatureFileError(folder, None, f"a folder of the banks {_STREAMS}", "nothing there")
    found = {}
    for file in sorted(folder.iterdir()):
        if file.suffix not in SUFFIXES or file.name.startswith("."):
            continue
        if folder.name == "test" and file.name in ("label.npy", "class_name.npy"):
            continue
        if not _STREAM.fullmatch(file.stem):
            raise FeatureFileError(file, None, f"one of {_STREAMS}", repr(file.stem))
        if file.stem in found:
            raise FeatureFileError(file, None, "one bank of this name", "two")
        found[file.stem] = open_bank(file)
    return found


def _roles(folder: Path, banks: Mapping[str, Bank]) -> tuple[list[str], list[str]]:
    """The streams of the modality that both spaces have, and the two other ones."""
    sides = {number: {m[:-2] for m in banks if m.endswith(number)} for number in ("_1", "_2")}
    shared = sides["_1"] & sides["_2"]
    if len(banks) != 4 or len(shared) != 1 or len(sides["_1"]) != 2:
        raise FeatureFileError(folder, None, f"the banks {_STREAMS}", ", ".join(banks) or "none")
    of_shared = [m for m in banks if m[:-2] in shared]
    return of_shared, [m for m in banks if m not in of_shared]


def _count(folder: Path, banks: Mapping[str, Bank]) -> int:
    first, *rest = banks
    count = len(banks[first].embeddings)
    for name in rest:
        if (found := len(banks[name].embeddings)) != count:
            raise FeatureFileError(folder, name, f"{count} rows as in {first}", str(found))
    return count


def _join(path: Path, name: str, train: Bank, test: Bank | None, count: int) -> np.ndarray:
    """The rows of both, then zeros; in the wider precision."""
    parts = [train.embeddings] if test is None else [train.embeddings, test.embeddings]
    dim = parts[0].shape[1]
    if parts[-1].shape[1] != dim:
        found = str(parts[-1].shape[1])
        raise FeatureFileError(path / "test", name, f"{dim} dimensions as in train", found)
    joined = scratch_array((count, dim), np.result_type(*parts))
    first = 0
    for part in parts:
        for chunk in chunks(len(part), part[0].nbytes):
            joined[first + chunk.start : first + chunk.stop] = part[chunk]
        first += len(part)
    return joined
