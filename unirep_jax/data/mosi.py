"""CMU-MOSI: 2,199 spoken opinions as words, voice and face, positive or negative.

Reference: Zadeh et al., "MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis
in Online Opinion Videos", 2016; features of Poria et al., ACL 2017.
"""

from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureSet
from unirep_jax.data.files import file_in

_TEXT, _AUDIO, _VISUAL = 100, 73, 100


def load(path: str | Path) -> FeatureSet:
    """The utterances of `mosi.npz` as modalities text, audio and visual; groups are videos.

    The training part is the one marked in the file: speakers of training and test differ.

    Args:
      path: the file or its folder. It holds text [utterance, 100], audio [utterance, 73], visual
        [utterance, 100], and label, video, train [utterance].

    Returns:
      These features in float32.

    Raises:
      FeatureFileError: the file is not that.
    """
    path = file_in(path, "mosi.npz")
    widths = {"text": _TEXT, "audio": _AUDIO, "visual": _VISUAL}
    with Archive(path) as archive:
        label = archive.read("label", "integer", (None,))
        return FeatureSet.from_arrays(
            "mosi",
            {
                m: archive.read(m, "float", (len(label), width)).astype(np.float32)
                for m, width in widths.items()
            },
            label,
            archive.read("train", "boolean", (len(label),)),
            group=archive.read("video", "integer", (len(label),)),
            class_names=("negative", "positive"),
            source=path,
        )
