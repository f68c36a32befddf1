"""Paired features of several modalities: the file format, data sets, and the training stream.

TensorFlow and scikit-learn are imported only by the functions that need them.
"""

from unirep_jax.data.channel_statistics import standardization
from unirep_jax.data.features import (
    FeatureFileError,
    FeatureSet,
    load_features,
    save_features,
)
from unirep_jax.data.kinds import Kind
from unirep_jax.data.pipeline import batches, gather, prefetch_to_device

__all__ = [
    "FeatureFileError",
    "FeatureSet",
    "Kind",
    "batches",
    "gather",
    "load_features",
    "prefetch_to_device",
    "save_features",
    "standardization",
]
