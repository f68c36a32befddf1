"""Entropic optimal transport between two batches: plan, potentials, and their gradient."""

import warnings
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import Scalar, accumulation_dtype, dot, kernel
from unirep_jax.losses.symmetric import NOTHING, tiled, untiled

UNROLLED = 20  # iterations differentiated by gradient="unroll"
LINEAR_ITERATIONS = 200  # at most, of the linear solver behind gradient="implicit"


class SinkhornPlan(NamedTuple):
    """A transport plan, and how far it is from having the marginals asked for.

    plan: [..., row, column]; marginal_error: [...], L1 over rows and columns together;
    converged: [...], whether the error is within the threshold;
    row_potential, column_potential: f, g with plan = exp((f + g − cost)/ε), −∞ for weight 0.
    """

    plan: Float[Array, "*pair row column"]
    marginal_error: Float[Array, "*pair"]
    converged: Bool[Array, "*pair"]
    row_potential: Float[Array, "*pair row"]
    column_potential: Float[Array, "*pair column"]


@kernel(static=("iterations", "gradient", "block_size"))
def sinkhorn_plan(
    x: Float[Array, "*pair row dim"],
    y: Float[Array, "*pair column dim"],
    *,
    epsilon: Scalar,
    marginals: tuple[
        Float[Array, "*#pair row"] | Bool[Array, "*#pair row"],
        Float[Array, "*#pair column"] | Bool[Array, "*#pair column"],
    ]
    | None = None,
    threshold: Scalar = 1e-3,
    iterations: int = 2000,
    gradient: Literal["stop", "unroll", "implicit"] = "stop",
    block_size: int | None = None,
) -> SinkhornPlan:
    """Entropic optimal transport between the rows of x and of y, squared Euclidean cost.

        π = argmin_π ⟨C, π⟩ + ε Σ π (log π − 1),  Cᵢⱼ = ‖xᵢ − yⱼ‖²,  π 1 = a,  πᵀ1 = b

    Everything is in the log domain. Leading axes are independent problems.

    Args:
      x, y: [..., row, dim] and [..., column, dim]. To transport over several devices, gather first.
      epsilon: ε > 0. On unit vectors a row of the plan is a softmax at temperature ε/2 up to
        column weights.
      marginals: weights of the rows and of the columns, normalised to sum to 1; None for uniform.
        Boolean weights remove rows and columns, which then have no mass and no gradient.
      threshold: L1 marginal error at which to stop.
      iterations: at most this many.
      gradient: of the plan and the potentials, with respect to x, y and ε. "stop": none, the plan
        is a constant. "unroll": through 20 more iterations from the solution; exact where those
        would converge from anywhere, so not for small ε. "implicit": exact at the solution, by
        conjugate gradients on the linearised marginal constraints. These reduce the error in the
        plan's own norm, so a plan near a permutation, with its singular system, is no obstacle.
      block_size: rows handled at a time; costs are computed again in every iteration, and memory
        but for the plan falls to O(column·(dim + block_size)). Under an outer `jax.jit` that does
        not use the plan, neither is the plan ever stored.

    Returns:
      `SinkhornPlan` in float32 or wider. Weights that are all zero give a zero plan.

    Reference: Cuturi, "Sinkhorn Distances", 2013; MOVER (You & Liu, CIKM 2025), eq. 4-5. The dense
    form is solved by OTT (Cuturi et al., 2022).
    """
    pair, dtype = x.shape[:-2], accumulation_dtype(x, y)
    if marginals is None:
        marginals = (jnp.ones(x.shape[:-1], dtype), jnp.ones(y.shape[:-1], dtype))
    marginals = jax.lax.stop_gradient(tuple(m.astype(dtype) for m in marginals))
    row, column = (jnp.broadcast_to(m, (*pair, m.shape[-1])) for m in marginals)
    solve = partial(_solve, iterations=iterations, gradient=gradient, block_size=block_size)
    for _ in pair:
        solve = jax.vmap(solve, in_axes=(0, 0, 0, 0, None, None))
    return solve(x, y, row, column, jnp.asarray(epsilon, dtype), jnp.asarray(threshold, dtype))


def _solve(x, y, row, column, epsilon, threshold, *, iterations, gradient, block_size):
    """One pair. The unknowns are u = f/ε and v = g/ε: plan = exp(L + u + v), L = −C/ε."""
    if gradient == "stop":
        x, y, epsilon = jax.lax.stop_gradient((x, y, epsilon))
    row, column = (w / jnp.where(jnp.sum(w) > 0, jnp.sum(w), 1) for w in (row, column))
    x = jnp.where(row[:, None] > 0, x, 0).astype(row.dtype)
    y = jnp.where(column[:, None] > 0, y, 0).astype(row.dtype)
    # L whole, or the factors from which each tile of its rows is computed when it is needed.
    rows = (2 / epsilon * x, jnp.sum(x * x, axis=-1) / epsilon)
    columns = (y, jnp.sum(y * y, axis=-1) / epsilon)
    if block_size is None:
        rows, columns = _log_kernel(rows, columns), None
    sweep = partial(_sweep, row=row, column=column, block_size=block_size)

    fixed = jax.lax.stop_gradient((rows, columns))
    target = 0.9 * threshold  # the error is measured anew on the plan, with its own rounding
    if block_size is None:
        v = _ott_potential(fixed[0], row, column, target, iterations)
    else:
        v = _streamed_potential(partial(sweep, *fixed), row, column, target, iterations)
    if gradient == "unroll":
        again = jax.checkpoint(lambda v, _: (sweep(rows, columns, v)[1], None))
        v, _ = jax.lax.scan(again, v, length=UNROLLED - 1)
        u, v = sweep(rows, columns, v)
    else:
        u, v = sweep(*fixed, v)
    if gradient == "implicit":
        u, v = _implicit(block_size, rows, columns, u, v)

    plan = _plan(rows, columns, u, v)
    row_sum, column_sum = _plan_sums(
        *jax.lax.stop_gradient((rows, columns, u, v)), block_size=block_size
    )
    error = jnp.sum(jnp.abs(row_sum - row)) + jnp.sum(jnp.abs(column_sum - column))
    f, g = (jnp.where(w > 0, epsilon * p, -jnp.inf) for w, p in ((row, u), (column, v)))
    return SinkhornPlan(plan, error, error <= threshold, f, g)


def _log_kernel(rows, columns):
    """Rows of L = −‖x − y‖²/ε, [row, column]. Without `columns` the rows are those of L already."""
    if columns is None:
        return rows
    (scaled_x, x_square), (y, y_square) = rows, columns
    product = dot(scaled_x, y, "id,jd->ij", precision="highest")
    return product - x_square[:, None] - y_square[None, :]


def _plan(rows, columns, u, v):
    return jnp.exp(_log_kernel(rows, columns) + u[:, None] + v[None, :])


def _balance(weights, logsumexp):
    """The potential that gives its rows their weights; `NOTHING` where there is none to give."""
    reached = (weights > 0) & (logsumexp > NOTHING / 2)
    return jnp.where(reached, jnp.log(jnp.where(reached, weights, 1)) - logsumexp, NOTHING)


def _sweep(rows, columns, v, *, row, column, block_size):
    """One Sinkhorn iteration, u from v and v from u, in a single pass over tiles of rows."""

    @jax.checkpoint
    def add(carry, tile):
        peak, total = carry
        tile_rows, tile_row = tile
        logits = _log_kernel(tile_rows, columns)
        u = _balance(tile_row, jax.nn.logsumexp(logits + v[None, :], axis=1))
        logits += u[:, None]
        new_peak = jnp.maximum(peak, jax.lax.stop_gradient(logits.max(0)))
        total = total * jnp.exp(peak - new_peak) + jnp.exp(logits - new_peak[None, :]).sum(0)
        return (new_peak, total), u

    start = (jnp.full_like(v, NOTHING), jnp.zeros_like(v))
    (peak, total), u = jax.lax.scan(add, start, tiled((rows, row), block_size))
    return untiled(u, row.shape[0]), _balance(column, peak + jnp.log(total))


def _ott_potential(log_kernel, row, column, threshold, iterations):
    """v by OTT's log-domain solver. It is never differentiated through: the caller does that."""
    # Constants that a module makes while it is first imported must not belong to our trace.
    with jax.ensure_compile_time_eval(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of OTT's dependencies
        from ott.geometry.geometry import Geometry
        from ott.solvers import linear
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        solution = linear.solve(
            Geometry(cost_matrix=-log_kernel, epsilon=1.0),
            a=row,
            b=column,
            threshold=threshold,
            max_iterations=iterations,
            inner_iterations=min(10, iterations),
            implicit_diff=None,
        )
    return jnp.where(jnp.isfinite(solution.g), solution.g, NOTHING)


def _streamed_potential(sweep, row, column, threshold, iterations):
    """v by `_sweep`, until the row marginals are within the threshold."""

    def unfinished(state):
        _, _, error, count = state
        return (error > threshold) & (count < iterations)

    def iterate(state):
        u, v, _, count = state
        new_u, v = sweep(v)
        # u_new = u + log(row / row sums of the plan of u and v): the error costs nothing.
        error = jnp.sum(row * jnp.abs(jnp.expm1(u - new_u)))
        return new_u, v, error, count + 1

    start = (*sweep(jnp.zeros_like(column)), jnp.asarray(jnp.inf, row.dtype), 1)
    return jax.lax.while_loop(unfinished, iterate, start)[1]


def _plan_sums(rows, columns, u, v, *, block_size):
    """Sums of the plan over its columns and over its rows, a tile of rows at a time."""

    def add(column_sum, tile):
        plan = _plan(tile[0], columns, tile[1], v)
        return column_sum + plan.sum(0), plan.sum(1)

    tiles = (tiled(rows, block_size), tiled(u, block_size, fill=NOTHING))
    column_sum, row_sum = jax.lax.scan(add, jnp.zeros_like(v), tiles)
    return untiled(row_sum, u.shape[0]), column_sum


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _implicit(block_size, rows, columns, u, v):
    """u and v as they are, with their derivative by L at the solution of the marginal constraints.

    With r, c the plan's row and column sums and (ū, v̄) the cotangents, the derivative of

        Σⱼ exp(Lᵢⱼ + uᵢ + vⱼ) = aᵢ,  Σᵢ exp(Lᵢⱼ + uᵢ + vⱼ) = bⱼ

    gives L̄ᵢⱼ = −πᵢⱼ (pᵢ + qⱼ) with r⊙p + πq = ū, πᵀp + c⊙q = v̄. Eliminating p leaves a positive
    semidefinite system for q, whose energy norm is that of L̄ in the weights 1/π.
    """
    return u, v


def _implicit_forward(block_size, rows, columns, u, v):
    return (u, v), (rows, columns, u, v)


def _implicit_backward(block_size, saved, cotangent):
    rows, columns, u, v = saved
    u_cotangent, v_cotangent = cotangent
    row_sum, column_sum = _plan_sums(rows, columns, u, v, block_size=block_size)
    inverse_row = jnp.where(row_sum > 0, 1 / jnp.where(row_sum > 0, row_sum, 1), 0)
    tiled_rows, tiled_u = tiled(rows, block_size), tiled(u, block_size, fill=NOTHING)
    if columns is None:  # the plan is small enough to be kept
        tiled_rows = _plan(rows, None, u, v)[None]

    def plan_of(tile_rows, tile_u):
        return tile_rows if columns is None else _plan(tile_rows, columns, tile_u, v)

    def through(weigh, numbers):
        """πᵀ w, with w = weigh(π, numbers) for each row, a tile at a time."""

        def add(total, tile):
            plan = plan_of(*tile[:2])
            return total + _product(weigh(plan, tile[2]), plan), None

        tiles = (tiled_rows, tiled_u, tiled(numbers, block_size))
        return jax.lax.scan(add, jnp.zeros_like(v), tiles)[0]

    q = _conjugate_gradients(
        lambda q: column_sum * q - through(lambda plan, w: _product(plan, q) * w, inverse_row),
        v_cotangent - through(lambda plan, w: w, inverse_row * u_cotangent),
        column_sum,
    )

    def add(column_cotangent, tile):
        tile_rows, tile_u, tile_inverse, tile_cotangent = tile
        log_kernel, pull = jax.vjp(_log_kernel, tile_rows, columns)
        plan = jnp.exp(log_kernel + tile_u[:, None] + v[None, :])
        p = tile_inverse * (tile_cotangent - _product(plan, q))
        row_cotangent, increment = pull(-plan * (p[:, None] + q[None, :]))
        return jax.tree.map(jnp.add, column_cotangent, increment), row_cotangent

    start = jax.tree.map(jnp.zeros_like, columns)
    tiles = (
        tiled(rows, block_size),
        tiled_u,
        tiled(inverse_row, block_size),
        tiled(u_cotangent, block_size),
    )
    column_cotangent, row_cotangent = jax.lax.scan(add, start, tiles)
    row_cotangent = jax.tree.map(lambda a: untiled(a, u.shape[0]), row_cotangent)
    return row_cotangent, column_cotangent, None, None


_implicit.defvjp(_implicit_forward, _implicit_backward)


def _product(left, right):
    return jnp.dot(left, right, precision="highest")


def _conjugate_gradients(operator, right_side, diagonal):
    """Solves operator(q) = right_side, semidefinite with null vector 1 and about that diagonal."""
    inverse = jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0)
    # Only what sums to zero is in the range; rounding, or a loss of the potentials, may leave it.
    total = jnp.sum(diagonal)
    residual = right_side - diagonal * (jnp.sum(right_side) / jnp.where(total > 0, total, 1))
    tolerance = jnp.finfo(residual.dtype).eps ** 2 * jnp.sum(residual * inverse * residual)

    def unfinished(state):
        _, _, _, energy, count = state
        return (energy > tolerance) & (count < LINEAR_ITERATIONS)

    def iterate(state):
        q, residual, direction, energy, count = state
        image = operator(direction)
        curvature = jnp.sum(direction * image)
        step = jnp.where(curvature > 0, energy / jnp.where(curvature > 0, curvature, 1), 0)
        residual = residual - step * image
        new_energy = jnp.where(curvature > 0, jnp.sum(residual * inverse * residual), 0)
        q, direction = q + step * direction, inverse * residual + new_energy / energy * direction
        return q, residual, direction, new_energy, count + 1

    start = inverse * residual
    energy = jnp.sum(residual * start)
    return jax.lax.while_loop(
        unfinished, iterate, (jnp.zeros_like(residual), residual, start, energy, 0)
    )[0]
