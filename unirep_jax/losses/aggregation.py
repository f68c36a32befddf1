"""Aggregation over an embedding bank: soft nearest neighbours, the nearest or a random item."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax.losses._kernel import Positive, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import NOTHING


@kernel(static=("block_size",))
def soft_aggregate(
    queries: Float[Array, "query dim"],
    memory: Float[Array, "item dim"],
    *,
    temperature: Positive,
    block_size: int | None = 2048,
    where: Bool[Array, "item"] | None = None,
) -> Float[Array, "query dim"]:
    """Mean of the memory for each query, weighted by the softmax of its similarities.

        v̂ᵢ = Σₖ exp(qᵢ·vₖ/τ) vₖ / Σⱼ exp(qᵢ·vⱼ/τ)

    The memory is read once, block by block, under an online softmax; each block serves both matrix
    products. The backward pass computes the weights of a block again. Similarities are taken at
    full matrix precision, because the temperature multiplies their error. Half precision is read as
    it is: only the weights are rounded to that of the memory, and all sums are in float32.

    Args:
      queries, memory: pass unit vectors for cosines. The result is a convex mean, and not unit.
      temperature: τ > 0. Traced, and differentiable.
      block_size: items handled at a time, None for all; memory is O(query·(dim + block_size)), in
        the backward pass too. The result does not depend on it.
      where: items that count.

    Returns:
      [query, dim] in float32 or wider. Without any item that counts it is 0, with no gradient; one
      item alone is the result; a zero query gives the plain mean.

    Example:
      >>> memory = jnp.eye(3)
      >>> print(soft_aggregate(memory[:1], memory, temperature=0.01))
      [[1. 0. 0.]]
      >>> print(soft_aggregate(memory[:1], memory, temperature=1.0))
      [[0.576 0.212 0.212]]

    Reference: C-MCR (Wang et al., NeurIPS 2023), eq. 2.
    """
    dtype = accumulation_dtype(queries, memory)
    where = jnp.ones(memory.shape[:1], bool) if where is None else where
    if memory.shape[0] == 0:
        return jnp.zeros(queries.shape, dtype)
    scale = jnp.asarray(1 / temperature, dtype)
    return _aggregate(block_size, queries, scale, memory, where)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _aggregate(block_size, queries, scale, memory, where):
    return _forward(block_size, queries, scale, memory, where)[0]


def _forward(block_size, queries, scale, memory, where):
    start = _nothing_mixed(queries, accumulation_dtype(queries, memory))
    peak, total, mixed = _mix(start, queries, scale, memory, where, block_size)
    share, mean = _mean(total, mixed)
    return mean, (queries, scale, memory, where, peak, share, mean)


def _nothing_mixed(queries, dtype):
    zeros = jnp.zeros(queries.shape[0], dtype)
    return zeros + NOTHING, zeros, jnp.zeros(queries.shape, dtype)


def _mix(start, queries, scale, memory, where, block_size):
    """Adds the blocks of a memory to (peak, total, mixed)."""

    def add(carry, block):
        peak, total, mixed = carry
        _, items, counts = _items(memory, where, *block)
        logits = jnp.where(counts[None, :], _logits(queries, scale, items), -jnp.inf)
        new_peak = jnp.maximum(peak, logits.max(1))
        weights = jnp.exp(logits - new_peak[:, None])
        if items.dtype.itemsize < 4:
            weights = weights.astype(items.dtype)  # a product in half precision, sums in float32
        decay = jnp.exp(peak - new_peak)
        total = total * decay + weights.astype(total.dtype).sum(1)
        mixed = mixed * decay[:, None] + dot(weights, items, "ij,jd->id", precision="highest")
        return (new_peak, total, mixed), None

    return _scan(add, start, memory, block_size)[0]


def _mean(total, mixed):
    # The peak's own weight is 1, so only a memory without items has a total of 0.
    share = 1 / jnp.where(total > 0, total, 1)
    return share, mixed * share[:, None]


def _backward(block_size, saved, cotangent):
    queries, scale, memory, where, peak, share, mean = saved
    dtype, level = cotangent.dtype, jnp.sum(cotangent * mean, axis=1)

    def add(carry, block):
        *sums, to_memory = carry
        first, items, counts = _items(memory, where, *block)
        logits, pull = jax.vjp(_logits, queries, scale, items)
        logits = jnp.where(counts[None, :], logits, -jnp.inf)
        weights = jnp.exp(logits - peak[:, None]) * share[:, None]
        rise = dot(cotangent, items.astype(dtype), "id,jd->ij", precision="highest")
        *more, to_items = pull(weights * (rise - level[:, None]))
        mixed = dot(weights, cotangent, "ij,id->jd", precision="highest")
        sums = [total + one.astype(dtype) for total, one in zip(sums, more, strict=True)]
        own = jax.lax.dynamic_slice_in_dim(to_memory, first, len(items))
        own = own + to_items.astype(dtype) + mixed
        return (*sums, jax.lax.dynamic_update_slice_in_dim(to_memory, own, first, 0)), None

    inputs = (queries, scale, memory)
    start = tuple(jnp.zeros(a.shape, dtype) for a in inputs)
    sums, _ = _scan(add, start, memory, block_size)
    return *(s.astype(a.dtype) for s, a in zip(sums, inputs, strict=True)), None


_aggregate.defvjp(_forward, _backward)


def _logits(queries, scale, items):
    return _dots(queries, items) * scale


def _dots(queries, items):
    if queries.dtype != items.dtype:
        dtype = accumulation_dtype(queries, items)
        queries, items = queries.astype(dtype), items.astype(dtype)
    return dot(queries, items, "id,jd->ij", precision="highest")


def _scan(step, start, memory, block_size):
    """Runs `step` over the blocks of a memory, given as the range of items that are new in each."""
    size = max(1, min(block_size or len(memory), len(memory)))
    new = jnp.arange(0, len(memory), size)
    # A last block that is not full starts earlier: padding would copy the whole memory.
    first = jnp.minimum(new, len(memory) - size)
    return jax.lax.scan(lambda c, b: step(c, (*b, size)), start, (first, new))


def _items(memory, where, first, new, size):
    """First place of a block, its items, whether each counts; one that does not is 0, never NaN."""
    items, counts = (jax.lax.dynamic_slice_in_dim(a, first, size) for a in (memory, where))
    counts = counts & (first + jnp.arange(size) >= new)
    return first, jnp.where(counts[:, None], items, 0), counts


class Mixture(NamedTuple):
    """Running state of a softmax-weighted mean over the pieces of a memory seen so far.

    peak: the largest logit; total: Σ exp(logit − peak); mixed: Σ exp(logit − peak) item.
    """

    peak: Float[Array, "query"]
    total: Float[Array, "query"]
    mixed: Float[Array, "query dim"]

    def mean(self) -> Float[Array, "query dim"]:
        """What `soft_aggregate` gives for all pieces at once; 0 without any item that counts."""
        return _mean(self.total, self.mixed)[1]


@kernel(static=("block_size",))
def mix_items(
    queries: Float[Array, "query dim"],
    memory: Float[Array, "item dim"],
    *,
    temperature: Positive,
    so_far: Mixture | None = None,
    block_size: int | None = 2048,
    where: Bool[Array, "item"] | None = None,
) -> Mixture:
    """`soft_aggregate` of a memory that comes in pieces, because no device holds all of it.

        m' = max(m, maxₖ qᵢ·vₖ/τ),  s' = s exp(m − m') + Σₖ exp(qᵢ·vₖ/τ − m'),  and Σₖ … vₖ alike

    To train, use `soft_aggregate`: a gradient of this stores the similarities of every block.

    Args:
      queries, memory, temperature, block_size, where: those of `soft_aggregate`, for one piece.
      so_far: of the pieces before, for the same queries; None before the first.

    Returns:
      The mixture in float32 or wider, with this piece; unchanged by one without items that count.

    Reference: C-MCR (Wang et al., NeurIPS 2023), eq. 2.
    """
    dtype = accumulation_dtype(queries, memory)
    where = jnp.ones(memory.shape[:1], bool) if where is None else where
    start = _nothing_mixed(queries, dtype) if so_far is None else so_far
    if memory.shape[0] == 0:
        return Mixture(*start)
    scale = jnp.asarray(1 / temperature, dtype)
    return Mixture(*_mix(tuple(start), queries, scale, memory, where, block_size))


@kernel(static=("block_size",))
def argmax_aggregate(
    queries: Float[Array, "query dim"],
    memory: Float[Array, "item dim"],
    *,
    block_size: int | None = 2048,
    where: Bool[Array, "item"] | None = None,
) -> Float[Array, "query dim"]:
    """The item of the memory most similar to each query: `soft_aggregate` as τ → 0.

        v̂ᵢ = vₖ,  k = argmaxₖ qᵢ·vₖ

    Among equal similarities it is the lowest index. The gradient goes to that item alone, never to
    the queries. A similarity of NaN, to whichever item that counts, gives NaN.

    Args:
      queries, memory: pass unit vectors for cosines.
      block_size: items compared at a time, None for all.
      where: items that count.

    Returns:
      [query, dim] in float32 or wider; 0 without any item that counts.

    Reference: C-MCR (Wang et al., NeurIPS 2023), table 5, the memory's most similar embedding.
    """
    dtype = accumulation_dtype(queries, memory)
    where = jnp.ones(memory.shape[:1], bool) if where is None else where
    if memory.shape[0] == 0:
        return jnp.zeros(queries.shape, dtype)
    asked, held = jax.lax.stop_gradient((queries, memory))

    def best_of(carry, block):
        highest, index = carry
        first, items, counts = _items(held, where, *block)
        scores = jnp.where(counts[None, :], _dots(asked, items), -jnp.inf)
        score = scores.max(1)
        better = ~(score <= highest)  # NaN is better than any number, and then stays
        better &= ~jnp.isnan(highest)
        index = jnp.where(better, first + jnp.argmax(scores, axis=1), index)
        return (jnp.where(better, score, highest), index), None

    nowhere = jnp.full(queries.shape[0], len(memory))
    start = (jnp.full(queries.shape[0], -jnp.inf, dtype), nowhere)
    (highest, index), _ = _scan(best_of, start, memory, block_size)
    return jnp.where(jnp.isnan(highest)[:, None], jnp.nan, _rows(memory, index))


@kernel()
def random_aggregate(
    queries: Float[Array, "query dim"],
    memory: Float[Array, "item dim"],
    *,
    key: Key[Array, ""],
    where: Bool[Array, "item"] | None = None,
) -> Float[Array, "query dim"]:
    """An item of the memory for each query, all that count being equally likely.

    The draw of a query depends on the key and on its place alone, not on how many there are.

    Args:
      queries: [query, dim], of which only the number matters.
      memory: [item, dim].
      key: randomness.
      where: items that count.

    Returns:
      [query, dim] in float32 or wider; 0 without any item that counts.

    Reference: C-MCR (Wang et al., NeurIPS 2023), table 5, a random embedding of the memory.
    """
    if memory.shape[0] == 0:
        return jnp.zeros(queries.shape, accumulation_dtype(memory))
    where = jnp.ones(memory.shape[:1], bool) if where is None else where
    upto = jnp.cumsum(where, dtype=jnp.int32)  # of the items that count
    count = jnp.sum(where, dtype=jnp.int32)

    def draw(place):
        chosen = jax.random.randint(
            jax.random.fold_in(key, place), (), 0, jnp.maximum(count, 1), jnp.int32
        )
        return jnp.searchsorted(upto, chosen, side="right").astype(jnp.int32)

    return _rows(memory, jax.vmap(draw)(jnp.arange(queries.shape[0])))


def _rows(memory, index):
    """Rows of the memory in float32 or wider; 0 for an index beyond the last."""
    rows = jnp.take(memory, index, axis=0, mode="fill", fill_value=0)
    return rows.astype(accumulation_dtype(memory))
