"""What of a data set an experiment has: optical flow as a modality, and a choice of both
modalities and classes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unirep_jax.data.features import Archive, FeatureFileError, FeatureSet
from unirep_jax.data.sample import take


def add_flow(feature_set: FeatureSet, path: str | Path) -> FeatureSet:
    """The feature set with the modality flow, the last one.

    Args:
      feature_set: without flow.
      path: what `unirep_jax.data.extract_flow` has made of the clips of the same examples, in the
        same order.

    Raises:
      FeatureFileError: the folder holds no flow, or that of another number of examples; there is
        flow already.
    """
    count = len(feature_set.label)
    with Archive(path) as archive:
        if "flow" in feature_set.modalities:
            others = f"features without flow in {feature_set.name}"
            raise FeatureFileError(path, "modality/flow", others, "some")
        flow = archive.read("modality/flow", "float", memory_map=True)
        present = archive.find("present/flow", "boolean", (count,))
        return FeatureSet.from_arrays(
            feature_set.name,
            feature_set.features | {"flow": flow},
            feature_set.label,
            feature_set.train,
            present=feature_set.present | ({} if present is None else {"flow": present}),
            group=feature_set.group,
            class_names=feature_set.class_names,
            kinds=feature_set.declared,
            captions=feature_set.captions,
            source=path,
        )


def choose_modalities(feature_set: FeatureSet, modalities: Sequence[str]) -> FeatureSet:
    """The feature set as if it had been seen through some of its modalities only.

    Examples with none of them are left out; memory-mapped features stay on disk.

    Args:
      feature_set: of any modalities.
      modalities: two or more of them, in the order that the result keeps.

    Raises:
      ValueError: one of them is not there or is named twice, fewer than two are named, or no
        training or no test example is left.
    """
    names = tuple(modalities)
    absent = [m for m in names if m not in feature_set.modalities]
    if absent or len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"--config.data.modalities={names}: expected two or more of "
            f"{', '.join(feature_set.modalities)}, each once"
        )
    seen = np.any([feature_set.present[m] for m in names], axis=0)
    rows = np.flatnonzero(seen)
    for part, wanted in (("training", feature_set.train), ("test", ~feature_set.train)):
        if not (seen & wanted).any():
            raise ValueError(f"modalities={names}: no {part} example has any of them")
    chosen = dataclasses.replace(
        feature_set,
        features={m: feature_set.features[m] for m in names},
        present={m: feature_set.present[m] for m in names},
    )
    return take(chosen, rows)


def without_classes(feature_set: FeatureSet, names: Sequence[str]) -> FeatureSet:
    """The feature set without the examples of some classes; the numbers of later classes move up.

    Raises:
      ValueError: a class is not there, or every class is named.
    """
    known = feature_set.class_names
    absent = [name for name in names if name not in known]
    if absent or not set(known) - set(names):
        raise ValueError(
            f"--config.data.without={tuple(names)}: expected some of {', '.join(known)}, not all"
        )
    kept = [name for name in known if name not in names]
    number = np.array([kept.index(name) if name in kept else -1 for name in known])
    unlabelled = feature_set.label < 0
    label = np.where(unlabelled, -1, number[feature_set.label])
    rows = np.flatnonzero(unlabelled | (label >= 0))
    whole = dataclasses.replace(feature_set, label=label.astype(np.int32), class_names=tuple(kept))
    return take(whole, rows)
