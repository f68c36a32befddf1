"""Every example of a feature set through a frozen network."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def map_examples(
    compute: Callable[[Any, dict], Any], variables: Any, feature_set, *, batch_size: int = 256
) -> Any:
    """`compute` of every example, a batch at a time, as one tree of NumPy arrays [example, ...].

    Args:
      compute: (variables, batch) -> tree of arrays [batch, ...], jitted here. The batch has
        `features` and `present` by modality; the features of what is absent are zero.
    """
    from unirep_jax.data.pipeline import gather

    compute, examples, parts = jax.jit(compute), np.arange(len(feature_set.label)), []
    for start in range(0, len(examples), batch_size):
        # The last batch is filled up with the last example: one shape, one compilation.
        rows = np.minimum(np.arange(start, start + batch_size), len(examples) - 1)
        batch = gather(feature_set, rows)
        batch = {"features": batch["features"], "present": batch["present"]}
        parts.append(jax.tree.map(np.asarray, compute(variables, batch)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[: len(examples)], *parts)


def embed_examples(method, params: dict, state: dict, feature_set) -> dict[str, Any]:
    """What `method.embed` makes of every example, by modality; absent ones too, from zeros."""

    def embed(variables, batch):
        return {m: method.embed(*variables, m, x) for m, x in batch["features"].items()}

    return map_examples(embed, (params, state), feature_set)
