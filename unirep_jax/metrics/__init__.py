"""Pure functions of scores and labels; higher score = more known, label −1 = unknown class.

Arithmetic is exact in the presence of ties and in float64; a wrong input raises ValueError.
Nothing here imports Flax or TensorFlow.
"""

from unirep_jax.metrics.open_set import (
    OpenSetAccuracy,
    ThresholdSweep,
    open_set_accuracy,
    openness,
    threshold_sweep,
)

__all__ = [
    "OpenSetAccuracy",
    "ThresholdSweep",
    "open_set_accuracy",
    "openness",
    "threshold_sweep",
]
