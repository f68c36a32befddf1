"""Scores of how known an example is, any of which a trained classifier can be evaluated with."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unirep_jax import metrics


class Features(NamedTuple):
    """What a classifier makes of some examples: what it decides by, its logits, and the truth."""

    features: Float[np.ndarray, "example dim"]
    logits: Float[np.ndarray, "example class"]
    label: Int[np.ndarray, "example"]


Score = Callable[[Features, Features], Float[np.ndarray, "example"]]

SCORES: dict[str, Score] = {
    "max_softmax": lambda test, fitted: metrics.max_softmax(test.logits),
    "max_logit": lambda test, fitted: metrics.max_logit(test.logits),
    "energy": lambda test, fitted: metrics.energy(test.logits),
    "nearest_neighbour": lambda test, fitted: metrics.nearest_neighbour(
        test.features, fitted.features
    ),
    "mahalanobis": lambda test, fitted: metrics.mahalanobis(
        test.features, fitted.features, fitted.label
    ),
    "virtual_logit": lambda test, fitted: metrics.virtual_logit(
        test.features, test.logits, fitted.features, fitted.logits
    ),
}
"""By name, (what is scored, the known examples that were fitted) -> float64 [example]."""
