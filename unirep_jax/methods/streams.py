"""The four streams of C-MCR, made of raw features of three modalities.

A frozen encoder of (shared, other) is pretrained for each space, on halves of the training part
that have no example in common, as CLIP and CLAP have none. Every training example then gives its
shared modality to both spaces, and the stream of the other one is what the space's memory holds
that is like it (eq. 2); test examples keep embeddings of their own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from unirep_jax import losses
from unirep_jax.data import FeatureSet
from unirep_jax.data.sample import take
from unirep_jax.methods.method import Encoded, Pretrain


def encode_streams(
    data: FeatureSet,
    pretrain: Pretrain,
    seed: int,
    *,
    spaces: tuple[tuple[str, str], tuple[str, str]],
    aggregate: Callable[[Array, Array, Key[Array, ""]], Array],
) -> Encoded:
    """Streams NAME_1 of the first space and NAME_2 of the second, of examples that have all three.

    Args:
      data: raw features.
      pretrain: trains the encoder of a space.
      seed: of the halves and of the encoders.
      spaces: (shared, other) modality of each.
      aggregate: eq. 2, (queries, memory, key) -> embeddings.

    Raises:
      ValueError: a modality is not there, or no training example has all three.
    """
    modalities = (spaces[0][0], spaces[0][1], spaces[1][1])
    for m in modalities:
        if m not in data.modalities:
            raise ValueError(f"modality {m!r} is none of {', '.join(data.modalities)}")
    complete = np.all([data.present[m] for m in modalities], axis=0)
    usable = data.train & complete
    if usable.sum() < 2:
        raise ValueError(f"{usable.sum()} training examples have all of {', '.join(modalities)}")
    features: dict[str, np.ndarray] = {}
    routes: dict[str, tuple] = {}
    for place, ((shared, other), rows) in enumerate(
        zip(spaces, halves(usable, seed), strict=True), start=1
    ):
        # Seeds of their own: encoders that start alike would be half connected already.
        encoder = pretrain(data, (shared, other), rows, seed=2 * seed + place - 1)
        queries, stream = (
            encoder.represent(m, data.features[m], present=data.present[m]).vector
            for m in (shared, other)
        )
        key = jax.random.fold_in(jax.random.key(seed), place)
        memory, stream = stream[rows], stream.astype(np.float32)
        stream[usable] = aggregate(jnp.asarray(queries[usable]), jnp.asarray(memory), key)
        features |= {f"{shared}_{place}": queries, f"{other}_{place}": stream}
        for m in (shared, other):
            routes[m] = (*routes.get(m, ()), (encoder, f"{m}_{place}"))
    present: dict[str, Any] = dict.fromkeys(features, complete)
    encoded = dataclasses.replace(data, features=features, present=present)
    return Encoded(keep(encoded, complete), routes)


AGGREGATES: dict[str, Callable] = {
    "softmax": lambda temperature: (
        lambda queries, memory, key: losses.soft_aggregate(queries, memory, temperature=temperature)
    ),
    "argmax": lambda temperature: (
        lambda queries, memory, key: losses.argmax_aggregate(queries, memory)
    ),
    "random": lambda temperature: (
        lambda queries, memory, key: losses.random_aggregate(queries, memory, key=key)
    ),
}
"""By name, temperature -> (queries, memory, key) -> embeddings: eq. 2, its best item, or any."""


def halves(
    rows: Bool[np.ndarray, "example"], seed: int
) -> tuple[Bool[np.ndarray, "example"], Bool[np.ndarray, "example"]]:
    """Two disjoint random halves of the chosen examples."""
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(rows))
    parts = (chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :])
    first, second = (np.isin(np.arange(len(rows)), part) for part in parts)
    return first, second


def keep(data: FeatureSet, rows: Bool[np.ndarray, "example"]) -> FeatureSet:
    """The feature set of these examples alone."""
    return take(data, np.flatnonzero(rows))
