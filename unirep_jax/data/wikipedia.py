"""Wikipedia: 2,866 sections of featured articles, each an image and its text, in 10 classes.

Reference: Rasiwasia et al., "A New Approach to Cross-Modal Multimedia Retrieval", ACM MM 2010.
"""

from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureSet
from unirep_jax.data.files import file_in

_WORDS, _TOPICS = 128, 10


def load(path: str | Path) -> FeatureSet:
    """The sections of `wikipedia.npz` as modalities image and text, with the published split.

    Args:
      path: the file or its folder. It holds image [section, 128] (histogram of visual words), text
        [section, 10] (topic probabilities), label, train [section] and class_name [class].

    Returns:
      Features in float32: image [section, 128] as square roots, whose distances suit histograms,
      and text [section, 10] as log probabilities, not below log 10⁻⁴.

    Raises:
      FeatureFileError: the file is not that.
    """
    path = file_in(path, "wikipedia.npz")
    with Archive(path) as archive:
        label = archive.read("label", "integer", (None,))
        image = archive.read("image", "float", (len(label), _WORDS))
        text = archive.read("text", "float", (len(label), _TOPICS))
        return FeatureSet.from_arrays(
            "wikipedia",
            {
                "image": np.sqrt(np.maximum(image, 0)).astype(np.float32),
                "text": np.log(np.maximum(text, 1e-4)).astype(np.float32),
            },
            label,
            archive.read("train", "boolean", (len(label),)),
            class_names=tuple(archive.read("class_name", "string", (None,))),
            source=path,
        )
