"""Exploration (COX): pulls predictions for uncertain examples towards those for anchors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import dot, kernel
from unirep_jax.losses.precision import accumulation_dtype


@kernel()
def anchor_divergence(
    logits: Float[Array, "batch class"],
    anchor_logits: Float[Array, "anchor class"],
    pairs: Bool[Array, "batch anchor"],
) -> Float[Array, "batch"]:
    """Mean divergence of each example's prediction from those for its anchors.

        ℓᵢ = mean_{a ∈ pairs(i)} KL(pᵢ ‖ q_a) = Σ_c pᵢ_c log pᵢ_c − Σ_c pᵢ_c mean_a log q_a_c

    The second form is one matrix product; no [batch, anchor, class] array exists. Anchors are
    constants: no gradient reaches them. Its minimum over pᵢ is the normalised geometric mean of the
    q_a, so anchors of all classes together draw every example to the uniform distribution: choose
    pairs (`candidate_pairs`, `nearest_pairs`).

    Args:
      logits: [batch, class] of p. anchor_logits: [anchor, class] of q.
      pairs: which anchors each example is compared with. Without any its loss is 0, without
        gradient.

    Returns:
      [batch] in float32 or wider, never negative but for rounding.

    Reference: COX ("Towards Out-of-Modal Generalization without Instance-level Modal
    Correspondence", ICLR 2025), the second term of eq. 13 and 15.
    """
    dtype = accumulation_dtype(logits, anchor_logits)
    # What is in no pair may hold NaN, which a weight of 0 would not stop.
    logits = jnp.where(pairs.any(axis=1)[:, None], logits.astype(dtype), 0)
    anchors = jax.lax.stop_gradient(anchor_logits).astype(dtype)
    anchors = jnp.where(pairs.any(axis=0)[:, None], anchors, 0)
    log_q = jax.nn.log_softmax(anchors, axis=-1)
    # −∞ is summed by counting, since 0 · −∞ is NaN.
    impossible = jnp.isneginf(log_q)
    count = jnp.sum(pairs, axis=1, dtype=dtype)
    weights = pairs.astype(dtype) / jnp.maximum(count, 1)[:, None]
    mean_log_q = dot(weights, jnp.where(impossible, 0, log_q), "ba,ac->bc")
    ruled_out = dot(weights, impossible.astype(dtype), "ba,ac->bc") > 0
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    mean_log_q = jnp.where(ruled_out & (p > 0), -jnp.inf, mean_log_q)
    terms = p * jnp.where(p != 0, log_p - mean_log_q, 0)
    return jnp.where(count > 0, jnp.sum(terms, axis=-1), 0)


@kernel(static=("axis_name",))
def marginal_divergence(
    logits: Float[Array, "batch class"],
    anchor_logits: Float[Array, "anchor class"],
    *,
    where: Bool[Array, "batch"] | None = None,
    anchor_where: Bool[Array, "anchor"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Divergence of the mean prediction from the mean prediction for the anchors.

        ℓ = KL( mean_{where} p ‖ mean_{anchor_where} q )

    What the authors of COX compute, on probabilities (≠: they use logits). Anchors are constants.

    Args:
      where, anchor_where: rows that count. Without any on either side the loss is 0.
      axis_name: mapped axis whose devices hold the rest of both. Every device returns the same.

    Returns:
      A scalar in float32 or wider.

    Reference: as `anchor_divergence`; the released code.
    """
    dtype = accumulation_dtype(logits, anchor_logits)

    def mean(logits, keep):
        keep = jnp.ones(logits.shape[:1], bool) if keep is None else keep
        # Before the softmax too, whose gradient at NaN is NaN even where it is 0.
        logits = jnp.where(keep[:, None], logits.astype(dtype), 0)
        total = jnp.sum(jnp.where(keep[:, None], jax.nn.softmax(logits, axis=-1), 0), axis=0)
        count = jnp.sum(keep, dtype=dtype)
        if axis_name is not None:
            total, count = jax.lax.psum((total, count), axis_name)
        return total / jnp.maximum(count, 1), count

    (p, rows), (q, anchors) = (
        mean(logits, where),
        mean(jax.lax.stop_gradient(anchor_logits), anchor_where),
    )
    tiny = jnp.finfo(dtype).tiny
    log_ratio = jnp.log(jnp.maximum(p, tiny)) - jnp.log(jnp.maximum(q, tiny))
    return jnp.where((rows > 0) & (anchors > 0), jnp.sum(p * log_ratio), 0)


@kernel()
def candidate_pairs(
    candidates: Int[Array, "head batch"],
    label: Int[Array, "anchor"],
    where: Bool[Array, "anchor"] | None = None,
) -> Bool[Array, "batch anchor"]:
    """Anchors whose label is among the classes that the heads name for an example.

    Args:
      candidates: [head, batch] classes. label: of each anchor. where: anchors that count.

    Reference: COX, eq. 13: its KL is conditioned on h₁*, h₂*; read as this choice.
    """
    pairs = jnp.any(candidates[:, :, None] == label[None, None, :], axis=0)
    return pairs if where is None else pairs & where[None, :]


@kernel()
def nearest_pairs(
    features: Float[Array, "batch dim"],
    anchor_features: Float[Array, "anchor dim"],
    where: Bool[Array, "batch anchor"] | None = None,
) -> Bool[Array, "batch anchor"]:
    """The one anchor that is nearest to each example, of those that count for it.

    By Euclidean distance; of equally near ones the first. None where none counts. An anchor that
    holds NaN is nearest to none, and an example that does has none.
    """
    dtype = accumulation_dtype(features, anchor_features)
    x, y = features.astype(dtype), anchor_features.astype(dtype)
    squared = jnp.sum(y * y, axis=1)[None, :] - 2 * dot(x, y, "bd,ad->ba", "highest")
    where = ~jnp.isnan(squared) if where is None else where & ~jnp.isnan(squared)
    if squared.shape[1] == 0:
        return where
    nearest = jnp.argmin(jnp.where(where, squared, jnp.inf), axis=1)
    return where & (nearest[:, None] == jnp.arange(squared.shape[1])[None, :])
