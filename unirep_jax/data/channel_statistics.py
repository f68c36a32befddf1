"""Mean and standard deviation of features, by which methods standardise them."""

import numpy as np

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import Kind
from unirep_jax.data.mapped import chunks

_STATISTICS_EXAMPLES = 4096


def standardization(feature_set: FeatureSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of every channel (last axis) over present training examples.

    At most 4,096 examples count, evenly spaced; sums are taken in float64, a chunk at a time. A
    constant channel has standard deviation 1; a modality that no training example has, mean 0 and
    standard deviation 1. Word ids have no mean, and are left out.

    Returns:
      modality -> (mean, standard deviation), float32 [dim] each, of those that are not words.
    """
    statistics = {}
    kinds = feature_set.kinds
    for modality, array in feature_set.features.items():
        if kinds[modality] is Kind.WORDS:
            continue
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
