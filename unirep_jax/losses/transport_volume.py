"""MOVER's transport-weighted volume: over all tuples, or over groups drawn from the plans."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax.losses._kernel import accumulation_dtype, dot, kernel, unit
from unirep_jax.losses.contrastive import Scalar
from unirep_jax.losses.symmetric import NOTHING, tiled, untiled
from unirep_jax.losses.volume import gram_volume


class TransportGroups(NamedTuple):
    """Groups of examples, one of each modality, for every anchor.

    index: [batch, group, modality] places in the batch, the first modality's being the anchor;
    weight: [batch, group], with sum 1 for an anchor that has mass and 0 for one that has none.
    """

    index: Int[Array, "batch group modality"]
    weight: Float[Array, "batch group"]


@kernel(static=("count",))
def top_groups(plans: Float[Array, "other batch batch"], *, count: int = 1) -> TransportGroups:
    """All combinations of each anchor's `count` best partners in every other modality.

    Args:
      plans: from the anchor modality to each of the others.
      count: k' of the paper's top-k' matching; 1 is its hard matching.

    Returns:
      `TransportGroups` with count^other groups, each weighted by the product of its plan entries,
      normalised for each anchor; the weights carry the plans' gradient. Lowest index among equals.

    Reference: MOVER (You & Liu, CIKM 2025), sec. 2.2.
    """
    others, batch, _ = plans.shape
    best, partner = jax.lax.top_k(plans, count)
    total = best.sum(-1, keepdims=True)
    best = best / jnp.where(total > 0, total, 1)
    choice = np.indices((count,) * others).reshape(others, -1)  # [other, group]
    rows = jnp.broadcast_to(jnp.arange(batch, dtype=partner.dtype)[:, None], (batch, len(choice.T)))
    index = [partner[m][:, choice[m]] for m in range(others)]
    weight = jnp.stack([best[m][:, choice[m]] for m in range(others)])
    return TransportGroups(jnp.stack([rows, *index], axis=-1), jnp.prod(weight, axis=0))


@kernel(static=("count",))
def sample_groups(
    plans: Float[Array, "other batch batch"], *, key: Key[Array, ""], count: int
) -> TransportGroups:
    """`count` groups for each anchor, partners drawn independently from its rows of the plans.

    The mean volume over these groups is an unbiased estimate of that under the anchor plan of
    `transport_volume_loss`. No gradient flows to the plans.

    Args:
      plans: from the anchor modality to each of the others.
      key: randomness; the same on every device that shares the plans.
      count: draws for each anchor.

    Reference: MOVER (You & Liu, CIKM 2025), sec. 2.2, soft sampling.
    """
    others, batch, _ = plans.shape
    cumulative = jnp.cumsum(jax.lax.stop_gradient(plans), axis=-1)
    total = cumulative[..., -1:]
    # Strictly below the total, so that a column without mass is never drawn.
    level = jax.random.uniform(key, (others, batch, count), plans.dtype)
    level = level * total * (1 - 2 * jnp.finfo(plans.dtype).eps)
    search = jax.vmap(jax.vmap(partial(jnp.searchsorted, side="right")))
    partner = jnp.minimum(search(cumulative, level), batch - 1).astype(jnp.int32)
    rows = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None], (batch, count))
    weight = jnp.broadcast_to(jnp.where(total[0] > 0, 1 / count, 0), (batch, count))
    return TransportGroups(jnp.stack([rows, *partner], axis=-1), weight.astype(plans.dtype))


@kernel(static=("block_size", "axis_name"))
def transport_volume_loss(
    vectors: Float[Array, "modality batch dim"],
    matching: Float[Array, "pair whole whole"] | TransportGroups,
    *,
    block_size: int = 16,
    axis_name: str | None = None,
) -> Float[Array, "batch"]:
    """Volume of the tuples (i, …) that each anchor i enters, weighted by how well they match.

        L = Σ_{i₁ … i_k} π_{i₁ … i_k} Vol(v¹_{i₁}, …, vᵏ_{i_k}) = mean of ℓᵢ over the anchors

    The plan over tuples is the product of the pairwise plans given, divided by its sum:

      π₁₂                     two modalities;
      B · π₁₂ᵢⱼ π₁₃ᵢₗ          three, from the anchor's plans: independent given the anchor, with
                              exact marginals (the sum is 1/B);
      π₁₂ᵢⱼ π₁₃ᵢₗ π₂₃ⱼₗ / Z    three, from the plans of all pairs, or from the three factors of
                              `multimarginal_plan`, which solve the problem over tuples.

    Args:
      vectors: [modality, batch, dim], the first modality being the anchor.
      matching: plans [pair, whole, whole] in the order 12, 13, 23, for all tuples of two or three
        modalities; or groups, for any number. `whole` is the batch over all devices.
      block_size: anchors handled at a time. Memory is O(batch² + block_size·batch²), or
        O(block_size·group·modality·dim) with groups; the batch³ tuples are never stored.
      axis_name: mapped axis whose devices hold the rest of the batch. Vectors are gathered across
        it, differentiably; plans or groups are those of the whole batch, the same on each device.

    Returns:
      [batch] in float32 or wider; an anchor without mass has 0, and the mean is over the others. In
      the sum over all tuples, a volume that rounding hides is 0 with zero gradient, as in
      `volume_matrix`; those of the tuples (i, …, i) are from `gram_volume`, which resolves them.

    Raises:
      ValueError: the number of plans does not fit the number of modalities.

    Reference: MOVER (You & Liu, CIKM 2025), eq. 8. The paper leaves the plan over tuples open.
    """
    vectors = vectors.astype(accumulation_dtype(vectors))
    modalities, batch, _ = vectors.shape
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch
    if axis_name is not None:
        vectors = jax.lax.all_gather(vectors, axis_name, axis=1, tiled=True)
    own = partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=batch)
    if isinstance(matching, TransportGroups):
        term, rows = partial(_group_volume, vectors), jax.tree.map(own, matching)
        return _each_anchor(term, rows, batch, block_size)
    if (modalities, len(matching)) not in ((2, 1), (3, 2), (3, 3)):
        raise ValueError(
            f"{len(matching)} plans given for all tuples of {modalities} modalities: two take 1, "
            "three take 2 or 3, and more are handled through groups"
        )
    matching = matching.astype(vectors.dtype)
    direction = unit(vectors)
    norm = jnp.sum(vectors * direction, axis=-1)
    place = first + jnp.arange(batch)
    matched = own(gram_volume(jnp.moveaxis(direction, 0, 1)))
    plans = [own(plan) for plan in matching[: modalities - 1]]
    rows = (own(direction[0]), own(norm[0]), matched, place, plans)
    last = matching[2] if len(matching) == 3 else None
    term = partial(_all_volumes, direction[1:], norm[1:], last)
    anchors = jnp.sum(matching[0].sum(1) > 0, dtype=vectors.dtype)
    total = _total(matching)
    return _each_anchor(term, rows, batch, block_size) * anchors / jnp.where(total > 0, total, 1)


def _each_anchor(term, rows, batch, block_size):
    """`term(rows)` a block of anchors at a time, and again in the backward pass."""
    blocks = tiled(rows, min(block_size, batch))
    return untiled(jax.lax.map(jax.checkpoint(term), blocks), batch)


def _group_volume(vectors, groups):
    """Σ weight · Vol over the groups of some anchors."""
    modality = jnp.arange(vectors.shape[0])[None, None, :]
    return jnp.sum(groups.weight * gram_volume(vectors[modality, groups.index]), axis=-1)


def _total(plans):
    """Sum over all tuples of the product of the plans."""
    if len(plans) == 1:
        return jnp.sum(plans[0])
    if len(plans) == 2:
        return jnp.sum(plans[0].sum(1) * plans[1].sum(1))
    return jnp.sum(dot(plans[0], plans[2], "ij,jl->il", precision="highest") * plans[1])


def _all_volumes(others, norms, last_plan, rows):
    """Σ π · Vol over all tuples of some anchors; `others` are the other modalities' directions.

    With s, t the cosines to the anchor, the two others leave it by √(1−s²) and √(1−t²), and
    Vol² = (1−sᵢⱼ²)(1−tᵢₗ²) − (xⱼₗ − sᵢⱼtᵢₗ)²: from three matrices of cosines, nothing else.
    """
    anchor, anchor_norm, matched, place, plans = rows
    resolution = 4 * jnp.finfo(anchor.dtype).eps
    own = place[:, None] == jnp.arange(others.shape[1])[None, :]
    cosines = [dot(anchor, other, "id,jd->ij", precision="highest") for other in others]
    squares = [jnp.maximum(1 - c * c, 0) for c in cosines]
    weights = [plan * norm[None, :] for plan, norm in zip(plans, norms, strict=True)]
    if len(others) == 1:
        volume = jnp.where(own, matched[:, None], _root(squares[0], resolution))
        return anchor_norm * jnp.sum(weights[0] * volume, axis=1)
    cross = dot(*others, "jd,ld->jl", precision="highest")
    (s, t), (a, b) = cosines, squares
    apart = cross[None] - s[:, :, None] * t[:, None, :]
    hidden = resolution * (a[:, :, None] + b[:, None, :])
    volume = _root(a[:, :, None] * b[:, None, :] - apart * apart, hidden)
    volume = jnp.where(own[:, :, None] & own[:, None, :], matched[:, None, None], volume)
    weight = weights[0][:, :, None] * weights[1][:, None, :]
    if last_plan is not None:
        weight = weight * last_plan[None]
    return anchor_norm * jnp.sum(weight * volume, axis=(1, 2))


def _root(square, hidden):
    """√ of what rounding does not hide, 0 with zero gradient of the rest."""
    seen = square > hidden
    return jnp.where(seen, jnp.sqrt(jnp.where(seen, square, 1)), 0)


class MultimarginalPlan(NamedTuple):
    """A plan over tuples of three modalities, as the product of three matrices.

    plans: [3, batch, batch], factors 12, 13, 23; marginal_error: L1 over the three marginals;
    converged: whether the error is within the threshold.
    """

    plans: Float[Array, "3 batch batch"]
    marginal_error: Float[Array, ""]
    converged: Bool[Array, ""]


@kernel(static=("iterations",))
def multimarginal_plan(
    vectors: Float[Array, "3 batch dim"],
    *,
    epsilon: Scalar,
    where: Bool[Array, "batch"] | None = None,
    threshold: Scalar = 1e-3,
    iterations: int = 200,
) -> MultimarginalPlan:
    """Entropic transport between three modalities at once, for the sum of the pairwise costs.

        πᵢⱼₗ = exp( (fᵢ + gⱼ + hₗ − C₁₂ᵢⱼ − C₁₃ᵢₗ − C₂₃ⱼₗ)/ε ), its three marginals uniform

    A marginal is one matrix product of size batch; the batch³ plan is never formed. Potentials are
    absorbed into the factors, whose rows are scaled; where the costs range over far more than 80 ε
    products of exponentials can still underflow, and `converged` tells.

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
            log_sum = _log_marginal(_log_factors(log_kernels, potentials), modality)
            error += excess(log_sum)
            new = jnp.where(where, potentials[modality] + log_weight - log_sum, NOTHING)
            potentials = potentials.at[modality].set(new)
        return potentials, error, count + 1

    potentials = jnp.where(where[None, :], jnp.zeros_like(vectors[..., 0]), NOTHING)
    start = (potentials, jnp.asarray(jnp.inf, vectors.dtype), 0)
    potentials, _, _ = jax.lax.while_loop(unfinished, iterate, start)
    factors = _log_factors(log_kernels, potentials)
    error = sum(excess(_log_marginal(factors, modality)) for modality in range(3))
    return MultimarginalPlan(jnp.exp(jnp.stack(factors)), error, error <= threshold)


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


def _log_marginal(factors, modality):
    """log Σⱼₗ exp(leftᵢⱼ + rightᵢₗ + crossⱼₗ), i in `modality`, by scaled exponentials."""
    first, second, third = factors
    left, right, cross = (
        (first, second, third),
        (first.T, third, second),
        (second.T, third.T, first),
    )[modality]
    cross_peak = cross.max(0)
    right = right + cross_peak[None, :]
    left_peak, right_peak = left.max(1), right.max(1)
    scaled = jnp.exp(left - left_peak[:, None]), jnp.exp(cross - cross_peak[None, :])
    inner = dot(*scaled, "ij,jl->il", precision="highest")
    total = jnp.sum(inner * jnp.exp(right - right_peak[:, None]), axis=1)
    # An underflow reads as the smallest number, so the next update raises that potential.
    return left_peak + right_peak + jnp.log(jnp.maximum(total, jnp.finfo(total.dtype).tiny))
