"""A few real examples of every kind, to try on them what all of them will go through."""

import dataclasses

import numpy as np
from jaxtyping import Int

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.mapped import take_rows


def few(data: FeatureSet, count: int) -> FeatureSet:
    """The examples at `few_rows`; the data themselves where these are all."""
    rows = few_rows(data, count)
    return data if len(rows) == len(data.label) else take(data, rows)


def few_rows(data: FeatureSet, count: int) -> Int[np.ndarray, "row"]:
    """Ascending rows: of each class, also of none, `count` for training and as many for the test.

    So many of every modality, where there are as many. Examples of many modalities come first,
    which can be paired, and of different groups, so that these can be held apart.

    Args:
      count: 0 for all.
    """
    if not count:
        return np.arange(len(data.label))
    kind = 2 * (data.label + 1) + data.train
    modalities = np.sum([*data.present.values()], axis=0)
    chosen = np.zeros(len(kind), bool)
    for present in data.present.values():
        rows = np.flatnonzero(present)
        repeats = _place_within(kind[rows], modalities[rows], data.group[rows])
        order = rows[np.lexsort((repeats, -modalities[rows], kind[rows]))]
        chosen[order[_place_within(kind[order]) < count]] = True
    return np.flatnonzero(chosen)


def take(data: FeatureSet, rows: Int[np.ndarray, "row"]) -> FeatureSet:
    """The feature set of these examples alone, ascending; see `take_rows`."""
    return dataclasses.replace(
        data,
        features={m: take_rows(x, rows) for m, x in data.features.items()},
        present={m: p[rows] for m, p in data.present.items()},
        label=data.label[rows],
        train=data.train[rows],
        group=data.group[rows],
    )


def _place_within(*keys: Int[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
    """How many rows before this one have the same keys."""
    order = np.lexsort(keys)
    new = np.any([np.diff(key[order], prepend=key[order[:1]] - 1) != 0 for key in keys], axis=0)
    starts = np.flatnonzero(new)
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    result = np.empty_like(place)
    result[order] = place
    return result
