"""Multiple features: 2,000 handwritten digits, each described by six sets of measurements.

Reference: van Breukelen, Duin, Tax and den Hartog, "Handwritten digit recognition by combined
classifiers", Kybernetika 1998; "Multiple Features" of the UCI repository.
"""

from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureSet
from unirep_jax.data.files import file_in

# Measurements of each view, and the type in which the file keeps them.
_VIEWS = {
    "pix": (240, "integer"),
    "fou": (76, "float"),
    "fac": (216, "integer"),
    "zer": (47, "float"),
    "kar": (64, "float"),
    "mor": (6, "float"),
}


def load(path: str | Path) -> FeatureSet:
    """The digits of `handwritten6.npz`; the six views are the modalities.

    Views are on very different scales (mor reaches 17,572, fou stays below 1): standardise them.
    The split is the one marked in the file, 1,600 against 400, balanced over classes. Who wrote a
    digit is not known, so every example is a group of its own.

    Args:
      path: the file or its folder. It holds pix, fou, fac, zer, kar and mor, label and train.

    Returns:
      float32 vectors: pix [example, 240] averages of 2 × 3 pixels, fou [example, 76] Fourier
      coefficients, fac [example, 216] profile correlations, zer [example, 47] Zernike moments, kar
      [example, 64] Karhunen-Loève coefficients, mor [example, 6] morphological features.

    Raises:
      FeatureFileError: the file is not that.
    """
    path = file_in(path, "handwritten6.npz")
    with Archive(path) as archive:
        label = archive.read("label", "integer", (None,))
        count = len(label)
        views = {
            view: archive.read(view, kind, (count, dim)).astype(np.float32)
            for view, (dim, kind) in _VIEWS.items()
        }
        return FeatureSet.from_arrays(
            "handwritten6",
            views,
            label,
            archive.read("train", "boolean", (count,)),
            class_names=tuple(str(digit) for digit in range(10)),
            source=path,
        )
