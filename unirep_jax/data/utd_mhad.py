"""UTD-MHAD: 27 actions by 8 people, seen as depth, skeleton and inertial signals at the same time.

Reference: Chen, Jafari and Kehtarnavaz, "UTD-MHAD: a multimodal dataset for human action
recognition utilizing a depth camera and a wearable inertial sensor", ICIP 2015.
"""

from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureSet
from unirep_jax.data.files import file_in

_STEPS, _HOG, _JOINTS, _SAMPLES, _CHANNELS = 16, 128, 20, 64, 6


def load(path: str | Path) -> FeatureSet:
    """The clips of `utd_mhad.npz` as modalities depth, skeleton and inertial; groups are people.

    The training part is the one marked in the file: the cross-subject split, odd against even
    people. The inertial sensor sits on the wrist for classes 0 … 20 and on the thigh for the rest,
    so it alone tells these two sets apart.

    Args:
      path: the file or its folder. It holds depth_hog [clip, 16, 128] (per frame, 4 × 4 cells × 8
        orientations), skeleton [clip, 16, 20, 3], inertial [clip, 64, 6], and label, subject, train
        [clip] and class_name [class].

    Returns:
      Features in float32: depth [clip, 16, 128], skeleton [clip, 16, 60], inertial [clip, 64, 6].

    Raises:
      FeatureFileError: the file is not that.
    """
    path = file_in(path, "utd_mhad.npz")
    with Archive(path) as archive:
        label = archive.read("label", "integer", (None,))
        clips = len(label)
        depth = archive.read("depth_hog", "float", (clips, _STEPS, _HOG))
        skeleton = archive.read("skeleton", "float", (clips, _STEPS, _JOINTS, 3))
        inertial = archive.read("inertial", "float", (clips, _SAMPLES, _CHANNELS))
        return FeatureSet.from_arrays(
            "utd_mhad",
            {
                "depth": depth.astype(np.float32),
                "skeleton": skeleton.astype(np.float32).reshape(clips, _STEPS, 3 * _JOINTS),
                "inertial": inertial.astype(np.float32),
            },
            label,
            archive.read("train", "boolean", (clips,)),
            group=archive.read("subject", "integer", (clips,)),
            class_names=tuple(archive.read("class_name", "string", (None,))),
            source=path,
        )
