"""Every example of a feature set through a trained model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.pipeline import gather
from unirep_jax.methods.method import RepresentationMethod
from unirep_jax.model import Model


class Representation(NamedTuple):
    """A frozen model's view of a data set, by modality; of absent examples, from zeros.

    A sequence is kept as indices into a table of vectors: the codebook of all modalities or, of a
    method without one, the steps of its own sequences. vectors: [example, dim], of unit length.
    """

    table: dict[str, Float[Array, "row dim"]]
    indices: dict[str, Int[Array, "example time"]]
    vectors: dict[str, Float[np.ndarray, "example dim"]]
    codebook: Float[Array, "code dim"] | None


def represent(model: Model, data: FeatureSet) -> Representation:
    """Sequences and vectors of every example in every modality of the data."""
    assert isinstance(model.method, RepresentationMethod)
    codebook = model.method.codebook(model.state)
    codebook = None if codebook is None else jnp.asarray(codebook)
    table, indices, vectors = {}, {}, {}
    for m in data.modalities:
        # Of sequences made of codes only the codes are kept, a hundredth of the memory.
        sequences, found = [], []
        for piece in model.pieces(m, data.features[m], present=data.present[m]):
            sequences.append(piece.sequence if piece.codes is None else piece.codes)
            found.append(piece.vector)
        sequence, vectors[m] = np.concatenate(sequences), np.concatenate(found)
        if codebook is not None:
            table[m], indices[m] = codebook, jnp.asarray(sequence)
        else:
            examples, time, dim = sequence.shape
            table[m] = jnp.asarray(sequence.reshape(-1, dim))
            indices[m] = jnp.arange(examples * time, dtype=jnp.int32).reshape(examples, time)
    return Representation(table, indices, vectors, codebook)


def map_examples(
    compute: Callable[[Any, dict], Any],
    variables: Any,
    feature_set: FeatureSet,
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
    compute, parts = jax.jit(compute), []
    examples = np.arange(len(feature_set.label)) if rows is None else rows
    for start in range(0, len(examples), batch_size):
        # The last batch is filled up with the last example: one shape, one compilation.
        place = np.minimum(np.arange(start, start + batch_size), len(examples) - 1)
        batch = gather(feature_set, examples[place])
        batch = {"features": batch["features"], "present": batch["present"]}
        parts.append(jax.tree.map(np.asarray, compute(variables, batch)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[: len(examples)], *parts)
