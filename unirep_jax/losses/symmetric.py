"""InfoNCE in both directions from one pass over the pairs, in memory linear in the batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unirep_jax.losses._kernel import Positive, dot, kernel
from unirep_jax.losses.precision import accumulation_dtype

Score = Callable[[Any, Any], Float[Array, "row column"]]

NOTHING = -1e30  # the log of an empty sum: finite, so that nothing becomes NaN in the backward pass


@kernel(static=("block_size", "axis_name"))
def symmetric_info_nce(
    x: Float[Array, "batch dim"],
    y: Float[Array, "batch dim"],
    *,
    temperature: Positive,
    where: Bool[Array, "batch"] | None = None,
    block_size: int | None = None,
    axis_name: str | None = None,
) -> Float[Array, "batch"]:
    """Mean of the InfoNCE from x to y and from y to x, for each pair (xᵢ, yᵢ).

        ℓᵢ = −½ log( exp(xᵢ·yᵢ/τ) / Σⱼ exp(xᵢ·yⱼ/τ) ) − ½ log( exp(xᵢ·yᵢ/τ) / Σⱼ exp(xⱼ·yᵢ/τ) )

    Both directions read the same logits, so the forward pass is one matrix product and the backward
    pass three (the logits again, then each input's gradient). Each direction is computed as
    softplus(log Σ_{j≠i} exp(lᵢⱼ) − lᵢᵢ), which keeps its relative precision when it is almost 0.

    Args:
      x, y: [batch, dim]; pass unit vectors for cosines.
      temperature: τ > 0. Traced, and differentiable.
      where: pairs that count; the others are neither positives nor negatives.
      block_size: rows of x handled at a time; memory falls from O(batch²) to
        O(batch·(dim + block_size)), in the backward pass too.
      axis_name: mapped axis whose devices hold the rest of the batch. Only y is gathered, and the
        sums over x are combined, so the arithmetic is split evenly over the devices.

    Returns:
      [batch] in float32 or wider, 0 for pairs removed by `where`. One pair alone gives 0.

    Example:
      >>> print(symmetric_info_nce(jnp.eye(3), jnp.eye(3), temperature=0.5))
      [0.24 0.24 0.24]

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", 2021, figure 3; C-MCR (Wang et al., NeurIPS 2023), its two contrastive terms.
    """
    dtype = accumulation_dtype(x, y)
    where = jnp.ones(x.shape[:1], bool) if where is None else where
    x, y = jnp.where(where[:, None], x, 0), jnp.where(where[:, None], y, 0)
    positive = jnp.sum(x.astype(dtype) * y.astype(dtype), axis=-1) / temperature
    scale = jnp.broadcast_to(jnp.asarray(1 / temperature, dtype), x.shape[:1])
    negative = negative_sums(
        _scaled_dot, (x, scale), y, where, block_size=block_size, axis_name=axis_name
    )
    x_to_y = jax.nn.softplus(negative.row_logsumexp - positive)
    y_to_x = jax.nn.softplus(negative.column_logsumexp - positive)
    return jnp.where(where, (x_to_y + y_to_x) / 2, 0)


def _scaled_dot(rows, columns):
    x, scale = rows
    return dot(x, columns, "id,jd->ij") * scale[:, None]


class NegativeSums(NamedTuple):
    """What the logits lᵢⱼ, j ≠ i, of a batch say about each example as a row and as a column.

    Sums run over the examples that count; an empty log-sum-exp is `NOTHING`.
    """

    row_logsumexp: Float[Array, "batch"]
    column_logsumexp: Float[Array, "batch"]
    row_sum: Float[Array, "batch"]
    column_sum: Float[Array, "batch"]


def negative_sums(
    score: Score,
    rows: Any,
    columns: Any,
    where: Bool[Array, "batch"] | Int[Array, "batch"],
    *,
    block_size: int | None,
    axis_name: str | None,
) -> NegativeSums:
    """Reduces the matrix `score(rows, columns)` without its diagonal along both axes, tile by tile.

    A tile is `block_size` rows against all columns. Its row sums are final at once; column sums are
    carried along, and combined over the devices of `axis_name` at the end. The backward pass
    computes each tile again.

    Args:
      score: function of (rows, columns) defined at module level, giving float32 logits or wider.
      rows, columns: pytrees of arrays with leading axis [batch].
      where: examples that count, as rows and as columns; as integers, those that count among
        others of the same number, 0 for none.
    """
    column_where = where
    if axis_name is not None:
        columns, column_where = jax.lax.all_gather((columns, where), axis_name, tiled=True)
    return _negative_sums(score, block_size, axis_name, rows, columns, where, column_where)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _negative_sums(score, block_size, axis_name, rows, columns, row_where, column_where):
    return _forward(score, block_size, axis_name, rows, columns, row_where, column_where)[0]


def _forward(score, block_size, axis_name, rows, columns, row_where, column_where):
    batch = row_where.shape[0]

    def add(carry, tile):
        peak, total, column_sum = carry
        tile_rows, pairs = tile
        logits = score(tile_rows, columns)
        valid = _valid(pairs, column_where)
        masked = jnp.where(valid, logits, -jnp.inf)
        row_peak = masked.max(1, initial=NOTHING)
        row_total = jnp.exp(masked - row_peak[:, None]).sum(1)
        new_peak = jnp.maximum(peak, masked.max(0, initial=NOTHING))
        total = total * jnp.exp(peak - new_peak) + jnp.exp(masked - new_peak[None, :]).sum(0)
        kept = jnp.where(valid, logits, 0)
        return (new_peak, total, column_sum + kept.sum(0)), (_log(row_peak, row_total), kept.sum(1))

    tiles = tiled((rows, _pairs(row_where, axis_name)), block_size)
    dtype = jax.eval_shape(jax.vmap(score, (0, None)), tiles[0], columns).dtype
    zeros = jnp.zeros(column_where.shape, dtype)
    (peak, total, column_sum), by_row = jax.lax.scan(add, (zeros + NOTHING, zeros, zeros), tiles)
    row_logsumexp, row_sum = (untiled(a, batch) for a in by_row)
    if axis_name is not None:
        highest = jax.lax.pmax(peak, axis_name)
        total = jax.lax.psum(total * jnp.exp(peak - highest), axis_name)
        peak, column_sum = highest, jax.lax.psum(column_sum, axis_name)
    column_logsumexp = _log(peak, total)
    own = partial(_own_rows, batch=batch, axis_name=axis_name)
    sums = NegativeSums(row_logsumexp, own(column_logsumexp), row_sum, own(column_sum))
    saved = (rows, columns, row_where, column_where, row_logsumexp, column_logsumexp)
    return sums, saved


def _backward(score, block_size, axis_name, saved, cotangent):
    rows, columns, row_where, column_where, row_logsumexp, column_logsumexp = saved
    batch = row_where.shape[0]
    by_row = (row_logsumexp, cotangent.row_logsumexp, cotangent.row_sum)
    by_column = (cotangent.column_logsumexp, cotangent.column_sum)
    if axis_name is not None:
        by_column = jax.lax.all_gather(by_column, axis_name, tiled=True)
    column_weight, column_shift = by_column

    def add(column_cotangent, tile):
        tile_rows, pairs, (logsumexp, weight, shift) = tile
        logits, pull = jax.vjp(score, tile_rows, columns)
        valid = _valid(pairs, column_where)
        logits = jnp.where(valid, logits, -jnp.inf)
        flow = weight[:, None] * jnp.exp(logits - logsumexp[:, None])
        flow += column_weight[None, :] * jnp.exp(logits - column_logsumexp[None, :])
        flow += jnp.where(valid, shift[:, None] + column_shift[None, :], 0)
        row_cotangent, increment = pull(flow)
        return jax.tree.map(lambda c, i: c + i.astype(c.dtype), column_cotangent, increment), (
            row_cotangent
        )

    # Half precision is accumulated in float32 from tile to tile.
    start = jax.tree.map(lambda c: jnp.zeros(c.shape, accumulation_dtype(c)), columns)
    tiles = tiled((rows, _pairs(row_where, axis_name), by_row), block_size)
    column_cotangent, row_cotangent = jax.lax.scan(add, start, tiles)
    row_cotangent = jax.tree.map(lambda a: untiled(a, batch), row_cotangent)
    column_cotangent = jax.tree.map(lambda a, c: a.astype(c.dtype), column_cotangent, columns)
    return row_cotangent, column_cotangent, None, None


_negative_sums.defvjp(_forward, _backward)


def _pairs(row_where, axis_name):
    """Whether each row counts, and the column that is its own."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * row_where.shape[0]
    return row_where, first + jnp.arange(row_where.shape[0])


def _valid(pairs, column_where):
    row_where, own_column = pairs
    own = own_column[:, None] == jnp.arange(column_where.shape[0])[None, :]
    if row_where.dtype != bool:
        own |= row_where[:, None] != column_where[None, :]
        row_where, column_where = row_where > 0, column_where > 0
    return row_where[:, None] & column_where[None, :] & ~own


def _log(peak, total):
    return peak + jnp.log(jnp.where(total > 0, total, 1))


def _own_rows(array, *, batch, axis_name):
    """The part of an array over the whole batch that belongs to this device."""
    if axis_name is None:
        return array
    return jax.lax.dynamic_slice_in_dim(array, jax.lax.axis_index(axis_name) * batch, batch)


def tiled(tree: Any, block_size: int | None, *, fill: float = 0) -> Any:
    """[batch, …] to [block, row, …], padded with `fill`, for every array of the pytree.

    A block has `block_size` rows, or all of them where there are no more or it is None.
    """

    def split(array):
        size = max(1, min(block_size or array.shape[0], array.shape[0]))
        blocks = -(-array.shape[0] // size)
        padding = blocks * size - array.shape[0]
        widths = ((0, padding), *((0, 0) for _ in array.shape[1:]))
        padded = jnp.pad(array, widths, constant_values=fill)
        return padded.reshape(blocks, size, *array.shape[1:])

    return jax.tree.map(split, tree)


def untiled(array: Float[Array, "block row *rest"], batch: int) -> Float[Array, "batch *rest"]:
    """The inverse of `tiled`."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])[:batch]
