"""Matching modalities by transport: plans between all of them, and what is done with a plan.

Vectors are [modality, batch, dim], presence is [modality, batch]; plans are of the whole batch over
all devices, [pair, whole, whole], pairs in the order 01, 02, ... 12, ... of the modalities.
"""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax import losses

Vectors = Float[Array, "modality batch dim"]
Plans = Float[Array, "pair whole whole"]


class Candidates(NamedTuple):
    """What plans match: vectors, whether they are present, and the axis of devices that share them.

    Without an axis they are of the whole batch already.
    """

    vectors: Vectors
    present: Bool[Array, "modality batch"]
    axis_name: str | None


class Matched(NamedTuple):
    """Plans between all modalities, and the share of them that Sinkhorn left unfinished.

    Both are None where nothing is matched. tuples: the plan over tuples of three modalities whose
    marginals the plans are, where there is one.
    """

    plans: Plans | None
    unconverged: Float[Array, ""] | None
    tuples: losses.MultimarginalPlan | None = None


def stand_in(vectors: Vectors, present: Bool[Array, "modality batch"]) -> Vectors:
    """[modality, batch, dim + modality]: what is absent is a unit vector normal to all others.

    The volume of a group with stand-ins is that of the rest of it.
    """
    count = len(vectors)
    normal = jnp.broadcast_to(jnp.eye(count)[:, None], (*present.shape, count))
    here = present[..., None]
    return jnp.concatenate([jnp.where(here, vectors, 0), jnp.where(here, 0, normal)], axis=-1)


def composition(present: Bool[Array, "modality batch"]) -> Int[Array, "batch"]:
    """Which modalities each example has, as a number."""
    powers = 2 ** jnp.arange(len(present), dtype=jnp.int32)
    return jnp.sum(jnp.where(present, powers[:, None], 0), axis=0)


def whole_batch(vectors: Vectors, present: Bool[Array, "modality batch"], axis_name: str | None):
    """Both from all devices of `axis_name`."""
    if axis_name is None:
        return vectors, present
    gather = partial(jax.lax.all_gather, axis_name=axis_name, axis=1, tiled=True)
    return gather(vectors), gather(present)


def pair_plans(
    candidates: Candidates, *, epsilon: float, iterations: int, gradient: str
) -> Matched:
    """Eq. 4-5 of MOVER between all pairs of modalities."""
    vectors, present = whole_batch(*candidates)
    weights, row, column = _weights(present)
    found = losses.sinkhorn_plan(
        vectors[row],
        vectors[column],
        epsilon=epsilon,
        marginals=(weights[row], weights[column]),
        iterations=iterations,
        gradient=gradient,
    )
    return Matched(found.plan, jnp.mean(~found.converged, dtype=jnp.float32))


def given_pairs(candidates: Candidates) -> Matched:
    """The pairs as they are given, in the form of plans: what transport has to be better than."""
    weights, row, column = _weights(whole_batch(*candidates)[1])
    paired = (weights[row] & weights[column]).astype(jnp.float32)
    paired /= jnp.maximum(paired.sum(1, keepdims=True), 1)
    return Matched(paired[:, :, None] * jnp.eye(paired.shape[1])[None], jnp.float32(0))


def tuple_plan(candidates: Candidates, *, epsilon: float, iterations: int) -> Matched:
    """A plan over tuples of three modalities."""
    vectors, present = whole_batch(*candidates)
    found = losses.multimarginal_plan(
        vectors, epsilon=epsilon, where=present.all(0), iterations=iterations
    )
    return Matched(found.pairs, (~found.converged).astype(jnp.float32), found)


def _weights(present):
    """Bool [modality, whole], and the first and the second modality of every pair.

    Absent examples have no mass. Where nobody has a modality its stand-ins take part, so that the
    volume of a tuple is that of its other members.
    """
    pairs = itertools.combinations(range(len(present)), 2)
    row, column = (jnp.array(side) for side in zip(*pairs, strict=True))
    return present | ~present.any(1, keepdims=True), row, column


# -- a queue of earlier embeddings ---------------------------------------------------------------

Queue = Float[Array, "modality slot channel"]


def empty_queue(modalities: int, slots: int, dim: int) -> Queue:
    """Nothing yet: the last channel of a slot says whether the modality is there."""
    return jnp.zeros((modalities, slots, dim + 1), jnp.float32)


def with_queue(
    vectors: Vectors,
    present: Bool[Array, "modality batch"],
    queue: Queue,
    axis_name: str | None,
) -> Candidates:
    """The whole batch and, after it, what the queue holds, which has no gradient."""
    vectors, present = whole_batch(vectors, present, axis_name)
    queue = jax.lax.stop_gradient(queue)
    vectors = jnp.concatenate([vectors, queue[..., :-1]], axis=1)
    return Candidates(vectors, jnp.concatenate([present, queue[..., -1] > 0], axis=1), None)


def enqueue(
    queue: Queue,
    vectors: Vectors,
    present: Bool[Array, "modality batch"],
    step: Int[Array, ""],
    axis_name: str | None,
) -> Queue:
    """The queue with this batch in place of the oldest; an example has one slot in all modalities.

    Raises:
      ValueError: the whole batch has more examples than the queue has slots.
    """
    keys = jnp.concatenate([vectors, present[..., None].astype(vectors.dtype)], axis=-1)
    put = lambda queue, keys: losses.enqueue(queue, keys, step, axis_name=axis_name)
    return jax.vmap(put)(queue, keys)


# -- what is done with a plan --------------------------------------------------------------------


def ordered(plans: Plans, order: list[int], count: int, *, anchor_only: bool) -> Plans:
    """Plans between some of `count` modalities in their order; or from the first of them alone."""
    place = {pair: i for i, pair in enumerate(itertools.combinations(range(count), 2))}
    pairs = itertools.combinations(order, 2)
    chosen = itertools.islice(pairs, len(order) - 1 if anchor_only else None)
    return jnp.stack([plans[place[p, q]] if p < q else plans[place[q, p]].T for p, q in chosen])


def matched(vectors: Vectors, plans: Plans, axis_name: str | None) -> list[Array]:
    """Of every modality but the first, the most probable partner of each own anchor, [batch, dim].

    `plans` are from the first modality to each other one: MOVER's hard matching.
    """
    own = own_rows(plans, vectors.shape[1], axis_name, axis=1)
    if axis_name is not None:
        vectors = jax.lax.all_gather(vectors, axis_name, axis=1, tiled=True)
    return [v[jnp.argmax(plan, axis=1)] for v, plan in zip(vectors[1:], own, strict=True)]


def transport_cost(vectors: Vectors, plan: Plans, axis_name: str | None) -> Float[Array, "batch"]:
    """Σⱼ πᵢⱼ ‖xᵢ − yⱼ‖² of each own row i of two modalities, times how many rows have mass.

    Its mean over rows with mass is ⟨π, C⟩.
    """
    own = own_rows(plan, vectors.shape[1], axis_name, axis=1)[0]
    x, y = vectors
    if axis_name is not None:
        y = jax.lax.all_gather(y, axis_name, tiled=True)
    cost = 2 - 2 * jnp.einsum("id,jd->ij", x, y, precision="highest")
    return jnp.sum(own * cost, axis=1) * jnp.sum(plan[0].sum(1) > 0, dtype=cost.dtype)


def mass_on_pairs(plans: Plans) -> Float[Array, ""]:
    """How much of the plans' mass lies on true pairs; chance is 1/batch."""
    mass, diagonal = jnp.sum(plans), jnp.sum(jnp.diagonal(plans, axis1=1, axis2=2))
    return jax.lax.stop_gradient(diagonal / jnp.where(mass > 0, mass, 1))


def own_rows(values: Array, batch: int, axis_name: str | None, *, axis: int = 0) -> Array:
    """This device's part of values of the whole batch, along an axis."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch
    return jax.lax.dynamic_slice_in_dim(values, first, batch, axis=axis)
