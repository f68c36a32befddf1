"""Every example of a feature set through a frozen network."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def map_examples(
    compute: Callable[[Any, dict], Any],
    variables: Any,
    feature_set,
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 256,
) -> Any:
    """`compute` of every example, a batch at a time, as one tree of NumPy arrays [example, ...].

    Args:
      rows: which examples, one at least; None for all.
      compute: (variables, batch) -> tree of arrays [batch, ...], jitted here. The batch has
        `features` and `present` by modality; the features of what is absent are zero.
    """
    from unirep_jax.data.pipeline import gather

    compute, parts = jax.jit(compute), []
    examples = np.arange(len(feature_set.label)) if rows is None else rows
    for start in range(0, len(examples), batch_size):
        # The last batch is filled up with the last example: one shape, one compilation.
        place = np.minimum(np.arange(start, start + batch_size), len(examples) - 1)
        batch = gather(feature_set, examples[place])
        batch = {"features": batch["features"], "present": batch["present"]}
        parts.append(jax.tree.map(np.asarray, compute(variables, batch)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[: len(examples)], *parts)


def embed_examples(method, params: dict, state: dict, feature_set) -> dict[str, Any]:
    """What `method.embed` makes of every example, by modality; absent ones too, from zeros."""

    def embed(variables, batch):
        return {m: method.embed(*variables, m, x) for m, x in batch["features"].items()}

    return map_examples(embed, (params, state), feature_set)
