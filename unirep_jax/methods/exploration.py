"""What COX draws examples to on which the in-modal heads disagree: the set D of eq. 13, 15."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import losses


class Known(NamedTuple):
    """Examples with a label, the anchors A, as constants.

    features: of the learner; logits: of its head; where: which of them count.
    """

    features: Float[Array, "anchor dim"]
    logits: Float[Array, "anchor class"]
    label: Int[Array, "anchor"]
    where: Bool[Array, "anchor"]


def anchor_pairs(
    pairing: str,
    votes: Float[Array, "head batch class"],
    features: Float[Array, "batch dim"],
    anchors: Known,
    keys: Key[Array, "batch"],
) -> Bool[Array, "batch anchor"]:
    """The anchors that each example is compared with, as `COX.pairing` says."""
    everything = jnp.broadcast_to(anchors.where[None], (len(features), len(anchors.label)))
    if pairing == "all":
        return everything
    if pairing == "random":
        draw = jax.vmap(lambda key: jax.random.uniform(key, anchors.label.shape))(keys)
        chosen = jnp.argmax(jnp.where(everything, draw, -1), axis=1)
        return everything & (chosen[:, None] == jnp.arange(len(anchors.label))[None])
    pairs = losses.candidate_pairs(jnp.argmax(votes, axis=-1), anchors.label, anchors.where)
    if pairing == "nearest":
        return losses.nearest_pairs(features, anchors.features, pairs)
    return pairs


def advantage(
    votes: Float[Array, "head batch class"],
    logits: Float[Array, "batch class"],
    label: Int[Array, "batch"],
    where: Bool[Array, "batch"],
    axis_name: str | None = None,
) -> Float[Array, "head"]:
    """How much oftener each in-modal head is right than the learner, where the heads disagree.

        aₖ = mean over D of [hₖ(z) names the class] − [h(z) names the class]

    Args:
      votes, logits: of the in-modal heads and of the learner; label: the true classes.
      where: examples that count.

    Returns:
      [head], each from −1 to 1; 0 where the heads agree on every example.
    """
    right = (jnp.argmax(votes, axis=-1) == label[None]).astype(logits.dtype)
    own = (jnp.argmax(logits, axis=-1) == label).astype(logits.dtype)
    apart = where & ~losses.agreement(votes).agree
    mean = lambda gained: losses.masked_mean(gained, apart, axis_name=axis_name)
    return jnp.stack([mean(head - own) for head in right])


def gated(
    votes: Float[Array, "head batch class"],
    where: Bool[Array, "batch"],
    trusted: Bool[Array, "head"],
) -> tuple[Float[Array, "head batch class"], Bool[Array, "batch"]]:
    """Votes and D without the heads that are not trusted; without any trusted head D is empty.

    The votes of a head that is not trusted become those of the first that is.
    """
    kept = jnp.where(trusted[:, None, None], votes, votes[jnp.argmax(trusted)][None])
    return kept, where & jnp.any(trusted)


def consensus(
    logits: Float[Array, "batch class"],
    votes: Float[Array, "head batch class"],
    *,
    heads: float,
    temperature: float,
) -> Float[Array, "batch class"]:
    """The sharpened geometric mean of the learner's prediction and those of the in-modal heads.

        t ∝ ((p^(1−w) · (∏ₖ pₖ)^(w/K))^(1/T)

    Args:
      heads: w, the share of the heads; temperature: T.

    Returns:
      [batch, class], a constant.
    """
    log_p, log_votes = jax.nn.log_softmax(logits), jax.nn.log_softmax(votes).mean(axis=0)
    mean = (1 - heads) * log_p + heads * log_votes
    return jax.lax.stop_gradient(jax.nn.softmax(mean / temperature))
