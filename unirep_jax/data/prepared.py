"""A folder of features as `unirep_jax.data.prepare` leaves it, with what lies beside them.

FOLDER/modality/NAME.npy, label.npy ...   what `load_features` reads
FOLDER/examples.txt                       the id of each row
FOLDER/recipe.json                        what it was made of
FOLDER/events.npz                         which events go on in which second, where known
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from unirep_jax.data.archive import Archive, FeatureFileError
from unirep_jax.data.features import FeatureSet, load_features, read_columns
from unirep_jax.data.files import read_text, split_lines, user_path
from unirep_jax.data.limits import SIDE_FILE_BYTES, TEXT_BYTES
from unirep_jax.data.sample import few_rows, take

RECIPE, EXAMPLES, EVENTS = "recipe.json", "examples.txt", "events.npz"


class EventLabels(NamedTuple):
    """What goes on in each second, by modality.

    events: bool [example, second, class]; labelled: bool [example], False where it is not known.
    """

    events: dict[str, Bool[np.ndarray, "example second class"]]
    labelled: dict[str, Bool[np.ndarray, "example"]]


class Prepared(NamedTuple):
    """features: a `FeatureSet`, perhaps without training examples; ids: of its examples."""

    features: FeatureSet
    events: EventLabels | None
    ids: tuple[str, ...]
    recipe: dict[str, Any]


def load_prepared(folder: str | Path) -> Prepared:
    """Features, memory-mapped, and all that is known beside them.

    A set for zero-shot evaluation has no training examples, which `load_features` refuses; this
    does not.

    Raises:
      FeatureFileError: the folder is not what `unirep_jax.data.prepare` writes.
    """
    folder = user_path(folder)
    recipe = _recipe(folder)
    features = load_features(folder) if recipe.get("train") else _test_only(folder)
    count, classes = len(features.label), features.num_classes
    try:
        ids = tuple(split_lines(read_text(folder / EXAMPLES, TEXT_BYTES)))
    except ValueError as error:
        raise FeatureFileError(folder, EXAMPLES, "UTF-8 text", str(error)) from error
    if len(ids) != count:
        raise FeatureFileError(folder, EXAMPLES, f"{count} lines", str(len(ids)))
    events = None
    if (folder / EVENTS).exists():
        events = _events(folder / EVENTS, features.modalities, count, classes)
    return Prepared(features, events, ids, recipe)


def few_prepared(prepared: Prepared, count: int) -> Prepared:
    """The examples at `sample.few_rows`; the set itself where these are all."""
    rows = few_rows(prepared.features, count)
    if len(rows) == len(prepared.ids):
        return prepared
    events = prepared.events
    if events is not None:
        events = EventLabels(
            *({m: np.asarray(x)[rows] for m, x in part.items()} for part in events)
        )
    ids = tuple(prepared.ids[row] for row in rows)
    return Prepared(take(prepared.features, rows), events, ids, prepared.recipe)


def _recipe(folder: Path) -> dict[str, Any]:
    expected = "a folder made by python -m unirep_jax.data.prepare"
    try:
        recipe = json.loads(read_text(folder / RECIPE, SIDE_FILE_BYTES))
        if not isinstance(recipe, dict) or not (folder / EXAMPLES).is_file():
            raise ValueError(f"no {EXAMPLES} beside an object in {RECIPE}")
    except (OSError, ValueError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise FeatureFileError(folder, None, expected, found) from error
    return recipe


def _test_only(folder: Path) -> FeatureSet:
    """As `load_features`, of a folder all of whose examples are for the test."""
    with Archive(folder) as archive:
        label = archive.read("label", "integer", (None,))
        count = len(label)
        split = archive.read("split", "string", (count,))
        if (split != "test").any():
            other = repr(str(split[np.argmax(split != "test")]))
            raise FeatureFileError(folder, "split", "test examples alone", other)
        checked = FeatureSet.from_arrays(
            folder.stem,
            label=label,
            train=np.arange(count) == 0,  # passes the check for a training example
            **read_columns(archive, count),
            source=folder,
        )
    return dataclasses.replace(checked, train=np.zeros(count, bool))


def _events(path: Path, modalities: tuple[str, ...], count: int, classes: int) -> EventLabels:
    with Archive(path) as archive:
        names = [m for m in modalities if f"events/{m}" in archive.keys]
        return EventLabels(
            {m: archive.read(f"events/{m}", "boolean", (count, None, classes)) for m in names},
            {m: archive.read(f"labelled/{m}", "boolean", (count,)) for m in names},
        )
