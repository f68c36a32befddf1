"""Kernels of CSSR and RCSSR: one small autoencoder per class, its error the class's logit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import Scalar, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype


@kernel(static=("block_size",))
def class_autoencoder_logits(
    features: Float[Array, "batch position dim"],
    encoders: Float[Array, "class dim latent"],
    decoders: Float[Array, "class latent dim"],
    *,
    scale: Scalar = -0.1,
    block_size: int | None = None,
) -> Float[Array, "batch position class"]:
    """Scaled L1 error of each class's autoencoder at each position of a feature map.

        l_c = scale·‖x − D_c tanh(E_c x)‖₁

    In CSSR the autoencoder of a class models its features, so a small error speaks for the class
    and the scale is negative; in RCSSR it models all others (reciprocal), and the scale is
    positive. A scale of 1 gives the errors.

    Args:
      features: [batch, position, dim]; one position for a fused vector.
      encoders, decoders: weights without bias, [class, dim, latent] and [class, latent, dim].
      scale: −γ or +γ, traced.
      block_size: classes at a time; memory falls from O(batch·position·class·dim) by that, in the
        backward pass too, with the same value.

    Returns:
      [batch, position, class] in float32 or wider. An exact reconstruction gives 0, with zero
      gradient through the error.

    Reference: Huang et al., "Class-Specific Semantic Reconstruction for Open Set Recognition",
    TPAMI 2023. ≠ the authors' code, which clips logits to ±100: a position beyond would
    stop learning, and the softmax needs no such help.
    """
    dtype = accumulation_dtype(features, encoders, decoders)
    features = features.astype(dtype)

    def errors(weights):
        encoder, decoder = weights
        latent = jnp.tanh(dot(features, encoder.astype(dtype), "npd,dl->npl"))
        error = features - dot(latent, decoder.astype(dtype), "npl,ld->npd")
        # Not `abs`, whose gradient at 0 is 1.
        return jnp.sum(error * jax.lax.stop_gradient(jnp.sign(error)), axis=-1)

    weights = (encoders, decoders)
    if block_size is None or features.size == 0:
        result = jax.vmap(errors)(weights)
    else:
        result = jax.lax.map(jax.checkpoint(errors), weights, batch_size=block_size)
    return scale * jnp.moveaxis(result, 0, -1)


@kernel()
def averaged_softmax(
    logits: Float[Array, "batch position class"],
    where: Bool[Array, "batch position"] | None = None,
) -> Float[Array, "batch class"]:
    """Mean over the positions that count of softmax(logits): the class probabilities.

    [batch, class] in float32 or wider; an example without positions gives zeros.

    Reference: Huang et al., TPAMI 2023.
    """
    logits = logits.astype(accumulation_dtype(logits))
    if where is not None:  # what is removed may hold NaN
        logits = jnp.where(where[..., None], logits, 0)
    return _mean_over_positions(jax.nn.softmax(logits, axis=-1), where)


@kernel()
def averaged_softmax_loss(
    logits: Float[Array, "batch position class"],
    labels: Int[Array, "batch"],
    *,
    where: Bool[Array, "batch position"] | None = None,
) -> Float[Array, "batch"]:
    """Negative log-likelihood of `averaged_softmax`.

        ℓᵢ = −log( 1/P Σ_p softmax(l_p)[y] )

    Computed from logarithms throughout: a probability that underflows still has its loss and its
    gradient.

    Args:
      logits: [batch, position, class].
      labels: [batch], in [0, class).
      where: positions that count.

    Returns:
      [batch] in float32 or wider; an example without positions gives 0 and no gradient.

    Reference: Huang et al., TPAMI 2023.
    """
    logits = logits.astype(accumulation_dtype(logits))
    where = jnp.ones(logits.shape[:2], bool) if where is None else where
    logits = jnp.where(where[..., None], logits, 0)
    logs = _at(jax.nn.log_softmax(logits, axis=-1), labels)
    some = where.any(axis=1)
    logs = jnp.where(where, logs, jnp.where(some, -jnp.inf, 0)[:, None])
    count = jnp.sum(where, axis=1, dtype=logs.dtype)
    loss = jnp.log(jnp.maximum(count, 1)) - jax.nn.logsumexp(logs, axis=1)
    return jnp.where(some, loss, 0)


@kernel()
def class_autoencoder_score(
    logits: Float[Array, "batch position class"],
    *,
    magnitude: Float[Array, "batch position"] | None = None,
    where: Bool[Array, "batch position"] | None = None,
) -> Float[Array, "batch"]:
    """How known an example is: mean logit of the predicted class, higher = more known.

        c = argmax of `averaged_softmax`,   s = mean_p l_{p,c}   or   mean_p l_{p,c} / m_p²

    Args:
      logits: [batch, position, class].
      magnitude: m, mean |x| over the dimensions at each position, by which CSSR divides twice;
        RCSSR does not. A position of magnitude 0 adds 0.
      where: positions that count.

    Returns:
      [batch] in float32 or wider; an example without positions gives 0.

    Reference: Huang et al., TPAMI 2023, the first score S₀ of the authors' code. The further ones
    need statistics of the training features.
    """
    floats = (logits,) if magnitude is None else (logits, magnitude)
    logits = logits.astype(accumulation_dtype(*floats))
    if where is not None:  # what is removed may hold NaN
        logits = jnp.where(where[..., None], logits, 0)
        magnitude = None if magnitude is None else jnp.where(where, magnitude, 1)
    predicted = jnp.argmax(averaged_softmax(logits, where), axis=-1)
    values = _at(logits, predicted)
    if magnitude is not None:
        magnitude = magnitude.astype(values.dtype)
        nonzero = magnitude != 0  # true of NaN
        divisor = jnp.where(nonzero, magnitude, 1)
        values = jnp.where(nonzero, values / divisor / divisor, 0)
    return _mean_over_positions(values[..., None], where)[:, 0]


def _at(values, classes):
    """values[i, :, classesᵢ], by comparison: a gather would need a scatter backwards."""
    own = classes[:, None] == jnp.arange(values.shape[-1], dtype=classes.dtype)[None, :]
    return jnp.sum(jnp.where(own[:, None, :], values, 0), axis=-1)


def _mean_over_positions(values, where):
    if where is None:
        return jnp.sum(values, axis=1) / max(values.shape[1], 1)
    total = jnp.sum(jnp.where(where[..., None], values, 0), axis=1)
    return total / jnp.maximum(jnp.sum(where, axis=1, dtype=values.dtype), 1)[:, None]
