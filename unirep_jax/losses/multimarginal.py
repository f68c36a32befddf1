"""MOVER's plan over tuples of three modalities, as the sum of three matrices of logarithms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import NonNegative, Positive, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import NOTHING


class MultimarginalPlan(NamedTuple):
    """A plan over tuples of three modalities, whose logarithm is the sum of three matrices.

    log_factors: [3, batch, batch], 12, 13 and 23, very negative for examples without mass; pairs:
    the same shape, what the plan says of each pair, its marginals; marginal_error: L1 over the
    marginals of the three modalities; converged: whether the error is within the threshold.
    """

    log_factors: Float[Array, "3 batch batch"]
    pairs: Float[Array, "3 batch batch"]
    marginal_error: Float[Array, ""]
    converged: Bool[Array, ""]


@kernel(static=("iterations",))
def multimarginal_plan(
    vectors: Float[Array, "3 batch dim"],
    *,
    epsilon: Positive,
    where: Bool[Array, "batch"] | None = None,
    threshold: NonNegative = 1e-3,
    iterations: int = 200,
) -> MultimarginalPlan:
    """Entropic transport between three modalities at once, for the sum of the pairwise costs.

        πᵢⱼₗ = exp( (fᵢ + gⱼ + hₗ − C₁₂ᵢⱼ − C₁₃ᵢₗ − C₂₃ⱼₗ)/ε ), its three marginals uniform

    A marginal is one matrix product of size batch; the batch³ plan is never formed. Potentials are
    absorbed into the factors, whose rows are scaled. Where the costs range over so much more than
    80 ε that a product of exponentials underflows, marginals are summed in the log domain, an
    anchor at a time. The factors stay logarithms, because at ε of a thousandth of the costs they
    are no numbers of float32 while their products are: the last marginal is met exactly, so the
    plan has all of its mass at every ε, converged or not.

    Args:
      vectors: [3, batch, dim].
      epsilon: ε > 0.
      where: examples that count; the others have no mass.
      threshold: L1 error over the three marginals at which to stop.
      iterations: at most this many.

    Returns:
      `MultimarginalPlan`, for `transport_volume_loss`. Nothing is differentiated.

    Reference: the plan over tuples of MOVER (You & Liu, CIKM 2025), eq. 8, read as multi-marginal
    transport under the costs of eq. 4; Benamou et al., "Iterative Bregman Projections for
    Regularized Transportation Problems", 2015.
    """
    vectors = jax.lax.stop_gradient(vectors.astype(accumulation_dtype(vectors)))
    if vectors.shape[1] == 0:
        none = jnp.zeros((), vectors.dtype)
        empty = jnp.zeros((3, 0, 0), vectors.dtype)
        return MultimarginalPlan(empty, empty, none, none == 0)
    where = jnp.ones(vectors.shape[1:2], bool) if where is None else where
    vectors = jnp.where(where[None, :, None], vectors, 0)
    weight = jnp.where(where, 1 / jnp.maximum(jnp.sum(where, dtype=vectors.dtype), 1), 0)
    log_weight = jnp.log(jnp.where(where, weight, 1))
    log_kernels = [_log_kernel(vectors[p], vectors[q], epsilon) for p, q in _PAIRS]

    def excess(log_sum):
        return jnp.sum(jnp.abs(jnp.where(where, jnp.exp(log_sum), 0) - weight))

    def unfinished(state):
        _, error, count = state
        return (error > threshold) & (count < iterations)

    def iterate(state):
        potentials, _, count = state
        error = jnp.zeros((), vectors.dtype)  # before each update, which costs nothing
        for modality in range(3):
            log_sum = _log_marginal(_log_factors(log_kernels, potentials), modality, where)
            error += excess(log_sum)
            new = jnp.where(where, potentials[modality] + log_weight - log_sum, NOTHING)
            potentials = potentials.at[modality].set(new)
        return potentials, error, count + 1

    potentials = jnp.where(where[None, :], jnp.zeros(vectors.shape[:2], vectors.dtype), NOTHING)
    start = (potentials, jnp.asarray(jnp.inf, vectors.dtype), 0)
    potentials, _, _ = jax.lax.while_loop(unfinished, iterate, start)
    factors = jnp.stack(_log_factors(log_kernels, potentials))
    error = sum(excess(_log_marginal(factors, modality, where)) for modality in range(3))
    return MultimarginalPlan(factors, _pair_marginals(factors), error, error <= threshold)


_PAIRS = ((0, 1), (0, 2), (1, 2))


def _log_kernel(x, y, epsilon):
    product = dot(x, y, "id,jd->ij", precision="highest")
    square_x, square_y = jnp.sum(x * x, axis=-1), jnp.sum(y * y, axis=-1)
    return (2 * product - square_x[:, None] - square_y[None, :]) / epsilon


def _log_factors(log_kernels, potentials):
    """Log factor of each pair; a potential is shared evenly by the two pairs that it enters."""
    halves = potentials / 2
    return [
        log_kernel + halves[p][:, None] + halves[q][None, :]
        for log_kernel, (p, q) in zip(log_kernels, _PAIRS, strict=True)
    ]


def _log_marginal(factors, modality, where):
    """log Σⱼₗ exp(leftᵢⱼ + rightᵢₗ + crossⱼₗ), i in `modality`.

    By products of scaled exponentials, or in the log domain if one that counts underflows.
    """
    first, second, third = factors
    left, right, cross = (
        (first, second, third),
        (first.T, third, second),
        (second.T, third.T, first),
    )[modality]
    cross_peak = cross.max(0)
    raised = right + cross_peak[None, :]
    left_peak, right_peak = left.max(1), raised.max(1)
    scaled = jnp.exp(left - left_peak[:, None]), jnp.exp(cross - cross_peak[None, :])
    inner = dot(*scaled, "ij,jl->il", precision="highest")
    total = jnp.sum(inner * jnp.exp(raised - right_peak[:, None]), axis=1)
    tiny = jnp.finfo(total.dtype).tiny
    lost = where & (total < 1e12 * tiny)  # up to a million terms, each below `tiny`, may be missing
    by_products = left_peak + right_peak + jnp.log(jnp.maximum(total, tiny))

    def in_log_domain():
        one = lambda row: jax.nn.logsumexp(row[0][:, None] + cross + row[1][None, :])
        return jax.lax.map(one, (left, right))

    return jax.lax.cond(lost.any(), in_log_domain, lambda: by_products)


def _pair_marginals(log_factors):
    """The mass of each pair of examples, [3, batch, batch], an anchor at a time."""
    first, second, third = log_factors

    def one(total, row):
        plan = jnp.exp(row[0][:, None] + third + row[1][None, :])
        return total + plan, (plan.sum(1), plan.sum(0))

    third_mass, (first_mass, second_mass) = jax.lax.scan(
        one, jnp.zeros_like(third), (first, second)
    )
    return jnp.stack([first_mass, second_mass, third_mass])
