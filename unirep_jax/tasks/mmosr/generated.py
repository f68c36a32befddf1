"""Out-of-distribution examples made of the known test examples: far from them, and near."""

import dataclasses
from collections.abc import Callable

import numpy as np

from unirep_jax.data import FeatureSet, standardization
from unirep_jax.data.kinds import Kind
from unirep_jax.data.mapped import take_rows
from unirep_jax.data.sample import take


def noise(known: FeatureSet, rng: np.random.Generator) -> FeatureSet:
    """Far: Gaussian noise with the mean and deviation of every channel, words at random."""
    statistics = standardization(dataclasses.replace(known, train=np.ones(len(known.label), bool)))
    features = {}
    for m, kind in known.kinds.items():
        x = np.asarray(known.features[m])
        if kind is Kind.WORDS:
            features[m] = rng.permutation(x.reshape(-1)).reshape(x.shape)
        else:
            mean, deviation = statistics[m]
            features[m] = (mean + deviation * rng.normal(size=x.shape)).astype(x.dtype)
    return dataclasses.replace(known, features=features)


def mismatched(known: FeatureSet, rng: np.random.Generator) -> FeatureSet:
    """Near: every modality is that of a known example, the first one of another class.

    Nothing is unknown about either part, so that only their disagreement gives them away.
    """
    first = known.modalities[0]
    rows = rng.permutation(len(known.label))
    # A shift of the order by the size of the largest class leaves no example its own class.
    rows = rows[np.argsort(known.label[rows], kind="stable")]
    partner = np.empty_like(rows)
    partner[rows] = np.roll(rows, int(np.bincount(known.label).max()))
    differ = np.flatnonzero(known.label != known.label[partner])
    seen = lambda x, m: take_rows(x, partner[differ] if m == first else differ)
    return dataclasses.replace(
        known,
        features={m: seen(x, m) for m, x in known.features.items()},
        present={m: seen(x, m) for m, x in known.present.items()},
        label=known.label[differ],
        train=known.train[differ],
        group=known.group[differ],
    )


GENERATED: dict[str, Callable[[FeatureSet, np.random.Generator], FeatureSet]] = {
    "noise": noise,
    "mismatched": mismatched,
}


def generate(name: str, tested: FeatureSet, rows: np.ndarray, seed: int) -> FeatureSet:
    """The set of this name, made of the examples `rows` (bool); all its labels are −1."""
    known = take(tested, np.flatnonzero(rows))
    made = GENERATED[name](known, np.random.default_rng(seed))
    return dataclasses.replace(made, label=np.full_like(made.label, -1))
