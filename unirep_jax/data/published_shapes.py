"""Shapes of the features that MICU and DCID were published for, and a set of nothing but them."""

import numpy as np

from unirep_jax.data.features import FeatureSet

SECONDS = 10
AUDIO = (SECONDS, 128)  # VGGish
VIDEO = (SECONDS, 7, 7, 512)  # VGG19, pool5, the mean over the frames of a second
TEXT = (SECONDS, 768)  # BERT, a vector for each of the first ten tokens
SHAPES = {"audio": AUDIO, "video": VIDEO, "text": TEXT}

_EXAMPLES = 128  # enough for a batch


def load() -> FeatureSet:
    """Zeros in place of training data, for networks that come trained."""
    features = {
        m: np.broadcast_to(np.float16(0), (_EXAMPLES, *shape)) for m, shape in SHAPES.items()
    }
    train = np.arange(_EXAMPLES) > 0
    return FeatureSet.from_arrays("published_shapes", features, np.full(_EXAMPLES, -1), train)
