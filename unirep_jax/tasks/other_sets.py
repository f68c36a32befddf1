"""Further data sets, on which a model that was trained on one is evaluated."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unirep_jax.data import FeatureSet, load_features
from unirep_jax.data.files import user_path
from unirep_jax.data.prepared import RECIPE, load_prepared


def load_set(path: str | Path) -> FeatureSet:
    """A folder made by `unirep_jax.data.prepare`, with or without training examples, or any other
    feature set.

    Raises:
      FeatureFileError: it is none of these.
    """
    path = user_path(path)
    if (path / RECIPE).is_file():
        return load_prepared(path).features
    return load_features(path)


def check_fit(features: FeatureSet, data: FeatureSet, path: str | Path) -> None:
    """Refuses a set with a modality that a network trained on `data` cannot embed.

    Raises:
      ValueError: in one line, naming the set, the modality and what training has.
    """
    for m, array in features.features.items():
        if m not in data.modalities:
            raise ValueError(
                f"{Path(path)} has {m!r}, the training data {', '.join(data.modalities)}"
            )
        trained_on = data.features[m].shape[1:]
        if array.shape[1:] != trained_on:
            raise ValueError(f"{Path(path)}: {m} {array.shape[1:]}, in training {trained_on}")


def searchable(data: FeatureSet, captions: str = "") -> bool:
    """Whether some test example has two modalities, or an item has captions to search with."""
    pairs = itertools.combinations(data.modalities, 2)
    met = any((data.present[a] & data.present[b] & ~data.train).any() for a, b in pairs)
    return met or bool(captions)


def check_sets(setting: str, paths: Sequence[str], data: FeatureSet) -> None:
    """Refuses sets that retrieval of a network trained on `data` cannot be evaluated on.

    Raises:
      ValueError, FeatureFileError: a set cannot be read, does not fit, has nothing to search
        between, or has the name of another one.
    """
    sets = [load_set(path) for path in paths]
    for path, found in zip(paths, sets, strict=True):
        check_fit(found, data, path)
        if not searchable(found, found.captions):
            raise ValueError(f"{setting}: {Path(path)} has no test example of two modalities")
    names = Counter([data.name, *(found.name for found in sets)])
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(
            f"{setting}: {twice[0]!r} is the name of two data sets, of which tables would have one "
            "row: rename the folder of one"
        )
