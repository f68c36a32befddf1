"""Which modalities share their time: measured on pairs, without labels."""

from collections.abc import Mapping
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Float

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import is_words

SHARED_ABOVE = (
    0.03  # correlation; captions and what they describe have −0.04, sensors 0.06 and more
)
_EXAMPLES, _STEPS = 1000, 16  # looked at, at most


def shared_time(feature_set: FeatureSet) -> dict[tuple[str, str], float]:
    """How far the changes of two modalities within an example go together, by pair of modalities.

        x ← x − its mean over examples, every channel with unit variance
        D(s, t) = distance of steps s and t of an example
        D ← D − its mean over (s, t) − its mean over examples
        value = correlation of Dᵐ and Dⁿ over (s, t) and training examples that have both

    Two recordings that run in step, whatever their channels mean, change at the same moments; the
    words of a caption do not change where the thing that it describes does. What all examples have
    at a step, and what an example has at all steps, is no evidence and is taken out.

    Args:
      feature_set: its training examples, 1,000 of them at most, are looked at.

    Returns:
      A value in [−1, 1] for each unordered pair, in the order of the feature set; 0 where one of
      them has no time: vectors, single steps, word ids. Above `SHARED_ABOVE` time is shared.
    """
    names = [m for m, x in feature_set.features.items() if not is_words(x)]
    sequences = [m for m in names if feature_set.features[m].ndim > 2]
    lengths = [feature_set.features[m].shape[1] for m in sequences]
    steps = min([n for n in lengths if n > 1] + [_STEPS])
    values = {}
    for one, other in combinations(feature_set.modalities, 2):
        both = feature_set.train & feature_set.present[one] & feature_set.present[other]
        rows = np.flatnonzero(both)[:_EXAMPLES]
        arrays = [feature_set.features[m] for m in (one, other) if m in sequences]
        timed = len(rows) > 1 and len(arrays) == 2 and min(a.shape[1] for a in arrays) > 1
        values[one, other] = (
            _correlation(*(_distances(a[rows], steps) for a in arrays)) if (timed) else 0.0
        )
    return values


def timed_pairs(values: Mapping[tuple[str, str], float]) -> tuple[tuple[str, str], ...]:
    """The pairs that share their time, of what `shared_time` measured."""
    return tuple(pair for pair, value in values.items() if value > SHARED_ABOVE)


def _distances(x: np.ndarray, steps: int) -> Float[np.ndarray, "example step step"]:
    x = np.asarray(x, np.float64)
    x = x.reshape(*x.shape[:2], -1, x.shape[-1]).mean(2)  # maps: their mean over positions
    edges = np.linspace(0, x.shape[1], steps + 1)
    x = np.stack(
        [
            x[:, int(first) : max(int(np.ceil(last)), int(first) + 1)].mean(1)
            for first, last in pairwise(edges)
        ],
        axis=1,
    )
    x -= x.mean(0)
    deviation = x.std((0, 1))
    x = x / np.where(deviation > 0, deviation, 1)
    square = (x * x).sum(-1)
    inner = np.einsum("isd,itd->ist", x, x)
    distance = np.sqrt(np.maximum(square[:, :, None] + square[:, None] - 2 * inner, 0))
    distance -= distance.mean((1, 2), keepdims=True)
    return distance - distance.mean(0)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    size = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / size) if size > 0 else 0.0
