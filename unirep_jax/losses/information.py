"""Bounds on mutual information (CLUB, CPC), and Gaussian latent variables."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax.losses._kernel import Positive, kernel
from unirep_jax.losses.contrastive import info_nce
from unirep_jax.losses.precision import accumulation_dtype

LOG_VARIANCE_LIMIT = 20.0  # standard deviations from 5·10⁻⁵ to 2·10⁴


@kernel()
def gaussian_log_likelihood(
    target: Float[Array, "*lead dim"],
    mean: Float[Array, "*lead dim"],
    log_variance: Float[Array, "*lead dim"],
) -> Float[Array, "*lead"]:
    """Log-density of each target under a Gaussian with diagonal covariance.

        log q(y) = −½ Σ_d ( (y_d − μ_d)² / σ²_d + log σ²_d + log 2π )

    Finite for every log variance at y = μ, and elsewhere wherever the value itself is.

    Reference: CLUB (Cheng et al., ICML 2020), the objective of its variational network.
    """
    dtype = accumulation_dtype(target, mean, log_variance)
    target, mean, log_variance = (a.astype(dtype) for a in (target, mean, log_variance))
    root = _root_of_precision(log_variance)
    square = ((target - mean) * root * root) ** 2
    return -0.5 * jnp.sum(square + log_variance + math.log(2 * math.pi), axis=-1)


@kernel(static=("axis_name",))
def club_upper_bound(
    target: Float[Array, "batch *rest dim"],
    mean: Float[Array, "batch *rest dim"],
    log_variance: Float[Array, "batch *rest dim"],
    *,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "batch *rest"]:
    """vCLUB: upper bound on mutual information, log-likelihood of own minus that of other targets.

        Iᵢ = log q(yᵢ|xᵢ) − 1/N Σⱼ log q(yⱼ|xᵢ),   q(y|xᵢ) = N(y; μᵢ, diag σ²ᵢ)

    Its mean bounds the mutual information of x and y from above where q is close to p(y|x). With
    the square expanded about the mean ȳ of the batch,

        Iᵢ = ½ Σ_d ( var(y)_d + (ȳ_d − μᵢ_d)² − (yᵢ_d − μᵢ_d)² ) / σ²ᵢ_d

    so all N² pairs cost as much as N of them, and no array is larger than the inputs. Other axes
    between `batch` and `dim`, such as time, are compared place by place.

    Args:
      target: y [batch, …, dim].
      mean, log_variance: μ and log σ² that the variational network gives for x.
      where: examples that count; the others are neither x nor y.
      axis_name: mapped axis whose devices hold the rest of the batch.

    Returns:
      [batch, …] in float32 or wider, 0 for removed examples. One example alone gives 0, and so do
      equal targets; the estimate may be negative.

    Reference: CLUB (Cheng et al., ICML 2020), vCLUB. The sampled form (vCLUB-S, in DCID's code)
    draws one j for each i; this is its expectation.
    """
    dtype = accumulation_dtype(target, mean, log_variance)
    where = jnp.ones(target.shape[:1], bool) if where is None else where
    rows = where.reshape(where.shape + (1,) * (target.ndim - 1))
    target, mean, log_variance = (
        jnp.where(rows, a.astype(dtype), 0) for a in (target, mean, log_variance)
    )
    count = jnp.maximum(_sum(rows.astype(dtype), axis_name), 1)
    center = _sum(target, axis_name) / count
    deviation = jnp.where(rows, target - center, 0)
    variance = _sum(deviation**2, axis_name) / count
    # (ȳ − μ)² − (y − μ)² as a product: two large squares would lose their difference.
    difference = -deviation * (target + center - 2 * mean)
    root = _root_of_precision(log_variance)
    bound = 0.5 * jnp.sum((variance + difference) * root * root * root * root, axis=-1)
    return jnp.where(rows[..., 0], bound, 0)


def _root_of_precision(log_variance):
    """σ^(−½). 1/σ² leaves the range where the log variance is −89, and makes 0 · ∞ of y = μ.

    Its fourth power does, too, if it is formed before it is multiplied with something small.
    """
    limit = 0.9 * jnp.log(jnp.finfo(log_variance.dtype).max)
    return jnp.exp(jnp.minimum(-log_variance / 4, limit))


def _sum(values, axis_name):
    """Over the batch and the devices, the axis kept."""
    total = jnp.sum(values, axis=0, keepdims=True)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


@kernel(static=("block_size", "axis_name"))
def cross_predictive_coding(
    predictions: Float[Array, "modality batch time step dim"],
    features: Float[Array, "modality batch time dim"],
    *,
    temperature: Positive = 1.0,
    where: Bool[Array, "modality batch"] | None = None,
    block_size: int | None = None,
    axis_name: str | None = None,
) -> Float[Array, "modality modality batch"]:
    """Contrastive prediction of every modality's future from every modality's past.

    With pᵐᵢₜₖ what modality m, having seen steps 0 … t of example i, predicts for step t + k, for
    every ordered pair (m, n), m = n included:

        ℓᵢ = mean over t, k of −log( exp(pᵐᵢₜₖ·zⁿᵢ,ₜ₊ₖ/τ) / Σⱼ exp(pᵐᵢₜₖ·zⁿⱼ,ₜ₊ₖ/τ) ),   t + k < T

    Args:
      predictions: [modality, batch, time, step, dim]; `step` k − 1 is the prediction k ahead. What
        would reach beyond the last step is not read.
      features: z [modality, batch, time, dim].
      temperature: τ > 0, traced.
      where: presence [modality, batch]. An absent modality neither predicts nor is predicted.
      block_size: keys handled at a time, as in `info_nce`.
      axis_name: mapped axis whose devices hold the rest of the batch.

    Returns:
      [modality that predicts, modality predicted, batch] in float32 or wider, 0 where either is
      absent. Sequences of one step have no future and give 0; so does one example alone.

    Reference: DCID (Xia et al., NeurIPS 2023), Cross-CPC; van den Oord et al., "Representation
    Learning with Contrastive Predictive Coding", 2018, eq. 4. ≠ DCID's code, which for one random t
    a step compares a target with the predictions of all examples; here a prediction chooses among
    targets, as the equations have it, and every t counts.
    """
    modalities, batch, time, _ = features.shape
    steps = min(predictions.shape[3], time - 1)
    present = jnp.ones((modalities, batch), bool) if where is None else where
    if steps < 1:
        return jnp.zeros((modalities, modalities, batch), accumulation_dtype(predictions, features))

    def choose(prediction, feature, where):
        return info_nce(
            prediction,
            feature,
            temperature=temperature,
            where=where,
            block_size=block_size,
            axis_name=axis_name,
        )

    over_time = jax.vmap(choose, in_axes=(1, 1, None))
    over_targets = jax.vmap(over_time, in_axes=(None, 0, 0))
    over_pairs = jax.vmap(over_targets, in_axes=(0, None, 0))
    both = present[:, None] & present[None]
    losses = [
        over_pairs(predictions[:, :, : time - k, k - 1], features[:, :, k:], both)
        for k in range(1, steps + 1)
    ]
    return jnp.mean(jnp.concatenate(losses, axis=2), axis=2)


@kernel()
def reparameterize(
    mean: Float[Array, "*lead dim"], log_variance: Float[Array, "*lead dim"], *, key: Key[Array, ""]
) -> Float[Array, "*lead dim"]:
    """A draw of the normal distribution as a differentiable function of its parameters.

        v = μ + exp(½ clip(log σ², ±20)) ε,   ε ∼ N(0, I)

    Args:
      mean, log_variance: [..., dim] of independent components. Beyond ±20 the log variance has no
        gradient, so that nothing overflows.
      key: of this draw.

    Returns:
      As `mean`, in float32 or wider.

    Reference: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4.
    """
    dtype = accumulation_dtype(mean, log_variance)
    spread = jnp.exp(
        jnp.clip(log_variance.astype(dtype), -LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT) / 2
    )
    return mean.astype(dtype) + spread * jax.random.normal(key, mean.shape, dtype)
