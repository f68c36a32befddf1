"""What COX finds in all examples at once when nothing is paired: anchors, centroids, counterparts.

Arrays over all examples of a pool hold features and mappings, never their pairs; raw features are
read a block at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax import losses
from unirep_jax.data.resident import Whole
from unirep_jax.losses.symmetric import tiled, untiled

BLOCK = 256  # examples that go through a network at a time


class Anchors(NamedTuple):
    """Out-of-modal examples with a label, as many as there may be; `where` says which there are.

    index: number of the example; features, logits: its own when it was chosen; embeddings: of the
    in-modal example that it corresponds to, by modality.
    """

    index: Int[Array, "anchor"]  # type: ignore[assignment]
    label: Int[Array, "anchor"]
    where: Bool[Array, "anchor"]
    features: Float[Array, "anchor dim"]
    logits: Float[Array, "anchor class"]
    embeddings: dict[str, Float[Array, "anchor length"]]


class Centroids(NamedTuple):
    """Of each class the mean features and the mean embeddings; `where`: classes that have both."""

    features: Float[Array, "class dim"]
    embeddings: dict[str, Float[Array, "class length"]]
    where: Bool[Array, "class"]


def no_anchors(count: int, dim: int, classes: int, lengths: dict[str, int]) -> Anchors:
    """Room for so many."""
    features, logits = jnp.zeros((count, dim)), jnp.zeros((count, classes))
    embeddings = {m: jnp.zeros((count, length)) for m, length in lengths.items()}
    index, label = jnp.full(count, -1, jnp.int32), jnp.zeros(count, jnp.int32)
    return Anchors(index, label, jnp.zeros(count, bool), features, logits, embeddings)


def no_centroids(classes: int, dim: int, lengths: dict[str, int]) -> Centroids:
    """Of no class yet."""
    embeddings = {m: jnp.zeros((classes, length)) for m, length in lengths.items()}
    return Centroids(jnp.zeros((classes, dim)), embeddings, jnp.zeros(classes, bool))


def of_all(compute: Callable[[dict], Any], pool: Whole) -> Any:
    """`compute` of every example of the pool, [example, ...], a block at a time."""
    blocks = tiled(pool.rows, BLOCK)
    found = jax.lax.map(lambda rows: compute(pool.take(rows)), blocks)
    return jax.tree.map(lambda x: untiled(x, len(pool.rows)), found)


def agreed_anchors(
    anchors: Anchors,
    rows: Int[Array, "example"],
    there: Bool[Array, "example"],
    votes: Float[Array, "head example class"],
    features: Float[Array, "example dim"],
    logits: Float[Array, "example class"],
) -> Anchors:
    """Eq. 14: the examples on which all heads agree and are surest, with what they agree on."""
    agreed = losses.agreement(votes)
    count = len(anchors.index)
    chosen = losses.most_confident(agreed.confidence, count=count, where=agreed.agree & there)
    best = chosen.index
    return anchors._replace(
        index=rows[best],
        label=agreed.label[best].astype(jnp.int32),
        where=chosen.where,
        features=features[best],
        logits=logits[best],
    )


def class_centroids(
    features: Float[Array, "example dim"],
    predicted: Int[Array, "example"],
    there: Bool[Array, "example"],
    embeddings: dict[str, Float[Array, "other length"]],
    label: Int[Array, "other"],
    present: dict[str, Bool[Array, "other"]],
    classes: int,
) -> Centroids:
    """Mean features of what the head gives to a class, mean embeddings of what belongs to it."""

    def means(x, label, where):
        members = jnp.where(where[:, None], jax.nn.one_hot(label, classes), 0)
        count = members.sum(0)
        return (members.T @ x) / jnp.maximum(count, 1)[:, None], count > 0

    features, where = means(features, predicted, there)
    found = {m: means(x, label, present[m]) for m, x in embeddings.items()}
    for _, of_modality in found.values():
        where = where & of_modality
    return Centroids(features, {m: mean for m, (mean, _) in found.items()}, where)


def corresponding_anchors(
    rows: Int[Array, "example"],
    there: Bool[Array, "example"],
    features: Float[Array, "example dim"],
    logits: Float[Array, "example class"],
    mapped: Float[Array, "head other dim"],
    label: Int[Array, "other"],
    complete: Bool[Array, "other"],
    embed: Callable[[Int[Array, "anchor"]], dict[str, Array]],
    *,
    count: int,
) -> Anchors:
    """The set A of eq. 15: the `count` examples nearest to all mappings of an in-modal one.

    Args:
      rows, there, features, logits: of the out-of-modal examples, and which have the modality.
      mapped, label, complete: of the in-modal ones, and which have all modalities.
      embed: embeddings of the in-modal examples at these places.
    """
    nearest = losses.nearest_correspondence(features, mapped, where=complete)
    there = there & jnp.isfinite(nearest.distance)
    chosen = losses.most_confident(-nearest.distance, count=count, where=there)
    best, counterpart = chosen.index, nearest.index[chosen.index]
    return Anchors(
        rows[best],
        label[counterpart],
        chosen.where,
        features[best],
        logits[best],
        embed(counterpart),
    )
