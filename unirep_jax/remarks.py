"""What of a training or of its tables cannot be with the data at hand, said before it starts."""

import numpy as np

from unirep_jax.data import FeatureSet
from unirep_jax.methods.method import Batches, Method, TrainedMethod


def remarks(method: Method, seen: FeatureSet) -> list[str]:
    """A line each about terms of the loss that cannot act, and about modalities without examples.

    Args:
      method: made for these data.
      seen: what training sees.
    """
    lines = []
    shapes = {m: tuple(x.shape[1:]) for m, x in seen.features.items()}
    if isinstance(method, TrainedMethod):
        inert = method.inert(shapes, seen.num_classes)
        if inert:
            lines.append(f"cannot act on these data: {'; '.join(inert)}")
        together = np.sum([seen.present[m] for m in seen.modalities], axis=0)
        paired = method.batches is Batches.PAIRED and (together[seen.train] > 1).any()
        if method.batches is Batches.PAIRED and not paired:
            lines.append(
                "no training example has two modalities: terms that compare them cannot act"
            )
    for part, rows in (("training", seen.train), ("test", ~seen.train)):
        absent = [m for m in seen.modalities if not (seen.present[m] & rows).any()]
        if absent and rows.any():
            side = "from" if part == "training" else "to"
            lines.append(
                f"no {part} example has {' or '.join(absent)}: directions {side} there are left out"
            )
    return lines
