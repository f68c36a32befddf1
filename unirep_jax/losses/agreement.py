"""Agreement of several classifiers: where they name one class, and the surest such examples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import accumulation_dtype, kernel


class Agreement(NamedTuple):
    """What the heads say of each example.

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
    """The best examples, best first. `where` is false of places beyond those that count."""

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
