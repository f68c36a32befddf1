"""Out-of-modal generalisation: where classifiers agree, and which embeddings correspond."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import dot, kernel
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import tiled, untiled


class Agreement(NamedTuple):
    """Predictions of several heads for each example, and whether they agree.

    agree: whether all name the same class. label: that class, or the first head's where they do
    not. confidence: mean over the heads of their largest probability.
    """

    agree: Bool[Array, "batch"]
    label: Int[Array, "batch"]
    confidence: Float[Array, "batch"]


@kernel()
def agreement(logits: Float[Array, "head batch class"]) -> Agreement:
    """Whether classifiers agree on each example, on what, and how sure they are.

        agreeᵢ ⟺ argmax h₁(xᵢ) = … = argmax h_K(xᵢ),   confidenceᵢ = 1/K Σₖ max_c softmax(hₖ(xᵢ))_c

    Args:
      logits: [head, batch, class], of one head or more. Equal logits name the lowest class. One
        head agrees with itself everywhere. Where a logit is NaN the heads do not agree, and the
        confidence is NaN.

    Example:
      >>> logits = jnp.array([[[2.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # two heads
      >>> found = agreement(logits)
      >>> print(found.agree, found.confidence)
      [ True False] [0.806 0.806]

    Reference: COX ("Towards Out-of-Modal Generalization without Instance-level Modal
    Correspondence", ICLR 2025), eq. 10 and 14.
    """
    named = jnp.argmax(logits, axis=-1)
    probabilities = jax.nn.softmax(logits.astype(accumulation_dtype(logits)), axis=-1)
    confidence = jnp.max(probabilities, axis=-1).mean(axis=0)
    agree = jnp.all(named == named[:1], axis=0) & ~jnp.isnan(confidence)
    return Agreement(agree, named[0], confidence)


class Chosen(NamedTuple):
    """Indices of the best examples, best first; `where` is false for padding."""

    index: Int[Array, "place"]  # type: ignore[assignment]
    where: Bool[Array, "place"]


@kernel(static=("count",))
def most_confident(
    score: Float[Array, "batch"], *, count: int, where: Bool[Array, "batch"] | None = None
) -> Chosen:
    """The `count` examples with the highest score: SORT_T of COX's eq. 14.

    Args:
      score: [batch]; an example with NaN does not count.
      count: T, at most the number of examples.
      where: examples that count, for instance those on which heads agree. Where they are fewer
        than T the places left over hold other examples, and their `where` is false.

    Equal scores are in the order of the examples.

    Reference: as `agreement`, eq. 14.
    """
    where = ~jnp.isnan(score) if where is None else where & ~jnp.isnan(score)
    if count > len(score):
        raise ValueError(f"most_confident: count={count} of {len(score)} examples")
    _, index = jax.lax.top_k(jnp.where(where, score, -jnp.inf), count)
    return Chosen(index, where[index])


class Correspondence(NamedTuple):
    """distance: to the nearest counterpart, inf where there is none; index: which one it is."""

    distance: Float[Array, "query"]
    index: Int[Array, "query"]  # type: ignore[assignment]


@kernel(static=("block_size",))
def nearest_correspondence(
    features: Float[Array, "query dim"],
    mapped: Float[Array, "head item dim"],
    *,
    where: Bool[Array, "item"] | None = None,
    query_where: Bool[Array, "query"] | None = None,
    block_size: int = 1024,
) -> Correspondence:
    """For each feature the item whose mappings are nearest to it on average.

        distⱼ = minᵢ 1/K Σₖ ‖zⱼ − vₖᵢ‖

    The mean is over norms, not squares. Items are compared by ‖z‖² + ‖v‖² − 2z·v, that is, by
    matrix products, which of points that nearly coincide are right to about 10⁻³ ‖z‖ only; the
    distance of the item chosen is computed again from the difference. Nothing larger than
    block_size × block_size is made.

    Args:
      features: [query, dim]. mapped: [head, item, dim], K mappings of every item.
      where: items that can be chosen.
      query_where: queries that count; the others have distance inf and index 0.
      block_size: queries and items handled at a time.

    Of equally near items the first is chosen. It has no gradient: distance is a constant, too. An
    item that holds NaN is chosen by none, and a query that does has distance NaN and index 0.

    Reference: COX ("Towards Out-of-Modal Generalization without Instance-level Modal
    Correspondence", ICLR 2025), section 3.4, the set A of eq. 15.
    """
    dtype = accumulation_dtype(features, mapped)
    z, items = (jax.lax.stop_gradient(x).astype(dtype) for x in (features, mapped))
    where = jnp.ones(items.shape[1], bool) if where is None else where
    query_where = jnp.ones(len(z), bool) if query_where is None else query_where
    if items.shape[1] == 0 or len(z) == 0:
        return Correspondence(jnp.full(len(z), jnp.inf, dtype), jnp.zeros(len(z), jnp.int32))
    where &= ~jnp.isnan(items).any(axis=(0, 2))
    unknown = query_where & jnp.isnan(z).any(axis=1)
    query_where &= ~unknown
    items = jnp.where(where[None, :, None], items, 0)
    z = jnp.where(query_where[:, None], z, 0)
    # Distances do not change with the origin; near it the expansion cancels least.
    center = jnp.sum(z, axis=0) / jnp.maximum(jnp.sum(query_where, dtype=dtype), 1)
    z, items = z - center[None], jnp.swapaxes(items - center[None, None], 0, 1)
    queries, (item_blocks, there) = tiled(z, block_size), tiled((items, where), block_size)
    places = jnp.arange(there.size, dtype=jnp.int32).reshape(there.shape)

    def nearest(query):
        norm = jnp.sum(query * query, axis=1)

        def fold(best, block):
            distance = jnp.where(block[1][:, None], _mean_distance(block[0], query, norm), jnp.inf)
            least = jnp.min(distance, axis=0)
            # Two reductions over rows; `argmin` takes several times as long on CPUs.
            same = distance == least[None, :]
            index = jnp.min(jnp.where(same, block[2][:, None], there.size), axis=0)
            closer = least < best[0]
            return (jnp.where(closer, least, best[0]), jnp.where(closer, index, best[1])), None

        first = (jnp.full(norm.shape, jnp.inf, dtype), jnp.zeros(norm.shape, jnp.int32))
        return jax.lax.scan(fold, first, (item_blocks, there, places))[0][1]

    index = untiled(jax.lax.map(nearest, queries), len(z))
    difference = z[:, None] - items[index]
    distance = jnp.sqrt(jnp.sum(difference * difference, axis=2)).mean(axis=1)
    found = query_where & jnp.any(where)
    distance = jnp.where(unknown, jnp.nan, jnp.where(found, distance, jnp.inf))
    return Correspondence(distance, jnp.where(found, index, 0))


def _mean_distance(items, query, norm):
    """Mean over heads of the distances of items [item, head, dim] and queries: [item, query]."""
    total = 0
    for head in range(items.shape[1]):
        vectors = items[:, head]
        squared = jnp.sum(vectors * vectors, axis=1)[:, None] + norm[None, :]
        squared -= 2 * dot(vectors, query, "id,qd->iq", "highest")
        total += jnp.sqrt(jnp.maximum(squared, 0))
    return total / items.shape[1]
