"""Entropic optimal transport between two batches: plan, potentials, and their gradient."""

import warnings
from functools import cache, partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses._kernel import NonNegative, Positive, dot, kernel
from unirep_jax.losses.linear_solvers import conjugate_gradients, fixed_point, reciprocal
from unirep_jax.losses.precision import accumulation_dtype
from unirep_jax.losses.symmetric import NOTHING, tiled, untiled

TILE = 2**20  # entries of a matrix handled at a time, which then stay in the cache
CHECK = 10  # iterations of the dense form between two looks at the error
STEADY = 1  # potentials apart by less from one iteration to the next are ready for scaling


class SinkhornPlan(NamedTuple):
    """A transport plan, and the error of its marginals.

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
    epsilon: Positive,
    marginals: tuple[
        Float[Array, "*#pair row"] | Bool[Array, "*#pair row"],
        Float[Array, "*#pair column"] | Bool[Array, "*#pair column"],
    ]
    | None = None,
    threshold: NonNegative = 1e-3,
    iterations: int = 2000,
    gradient: Literal["stop", "unroll", "implicit"] = "stop",
    block_size: int | None = None,
) -> SinkhornPlan:
    """Entropic optimal transport between the rows of x and of y, squared Euclidean cost.

        π = argmin_π ⟨C, π⟩ + ε Σ π (log π − 1),  Cᵢⱼ = ‖xᵢ − yⱼ‖²,  π 1 = a,  πᵀ1 = b

    Leading axes are independent problems. The dense form is solved by OTT, in the log domain until
    an iteration moves the potentials by little, and then by scaling the plan that they make:
    two matrix-vector products an iteration and no exponential, as stable at every ε.

    Args:
      x, y: [..., row, dim] and [..., column, dim]. To transport over several devices, gather first.
      epsilon: ε > 0. On unit vectors a row of the plan is a softmax at temperature ε/2 up to
        column weights.
      marginals: weights of the rows and of the columns, normalised to sum to 1; None for uniform.
        Boolean weights remove rows and columns, which then have no mass and no gradient.
      threshold: L1 marginal error at which to stop.
      iterations: after this many none is begun. The dense form begins up to a quarter at once.
      gradient: of the plan and the potentials, with respect to x, y and ε. "stop": none, the plan
        is a constant. "unroll": that of 20 more iterations at the solution; exact where those
        would converge from anywhere, so not for small ε. "implicit": exact at the solution, by
        conjugate gradients on the linearised marginal constraints. These reduce the error in the
        plan's own norm, so a plan near a permutation, with its singular system, is no obstacle.
      block_size: rows handled at a time; costs are computed again in every iteration, and memory
        but for the plan falls to O(column·(dim + block_size)). Under an outer `jax.jit` that does
        not use the plan, neither is the plan ever stored.

    Returns:
      `SinkhornPlan` in float32 or wider. Weights that are all zero give a zero plan; without rows
      or columns it is empty, and not converged unless both are missing.

    Example:
      >>> x, y = jnp.eye(2), jnp.eye(2)[::-1]
      >>> result = sinkhorn_plan(x, y, epsilon=0.1)
      >>> print(result.plan, result.converged)
      [[0.  0.5]
       [0.5 0. ]] True

    Reference: Cuturi, "Sinkhorn Distances", 2013; MOVER (You & Liu, CIKM 2025), eq. 4-5. The dense
    form is solved by OTT (Cuturi et al., 2022).
    """
    pair, dtype = x.shape[:-2], accumulation_dtype(x, y)
    if x.shape[-2] * y.shape[-2] == 0:
        return _no_plan(x, y, dtype)
    if marginals is None:
        marginals = (jnp.ones(x.shape[:-1], dtype), jnp.ones(y.shape[:-1], dtype))
    marginals = jax.lax.stop_gradient(tuple(m.astype(dtype) for m in marginals))
    row, column = (jnp.broadcast_to(m, (*pair, m.shape[-1])) for m in marginals)
    solve = partial(_solve, iterations=iterations, gradient=gradient, block_size=block_size)
    for _ in pair:
        solve = jax.vmap(solve, in_axes=(0, 0, 0, 0, None, None))
    return solve(x, y, row, column, jnp.asarray(epsilon, dtype), jnp.asarray(threshold, dtype))


def _no_plan(x, y, dtype):
    """Without rows or columns: nothing to transport, and all of the marginals missing."""
    pair, rows, columns = x.shape[:-2], x.shape[-2], y.shape[-2]
    error = jnp.full(pair, float(rows > 0) + float(columns > 0), dtype)
    potentials = (jnp.full((*pair, n), -jnp.inf, dtype) for n in (rows, columns))
    return SinkhornPlan(jnp.zeros((*pair, rows, columns), dtype), error, error == 0, *potentials)


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
    tile = block_size or max(1, TILE // column.shape[0])
    fixed = jax.lax.stop_gradient((rows, columns))
    sweep = partial(_sweep, *fixed, row=row, column=column, tile=tile)
    target = 0.9 * threshold  # the error is measured anew on the plan, with its own rounding
    if block_size is None:
        u, v = _dense_potentials(sweep, fixed[0], row, column, target, iterations)
    else:
        u, v = _streamed_potentials(sweep, column, target, iterations)
    if gradient != "stop":
        u, v = _differentiable(gradient, tile, rows, columns, u, v)

    plan = _plan(rows, columns, u, v)
    row_sum, column_sum = _plan_sums(*jax.lax.stop_gradient((rows, columns, u, v)), tile=tile)
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


def _sweep(rows, columns, v, *, row, column, tile):
    """One Sinkhorn iteration, u from v and v from u, in a single pass over tiles of rows."""

    def add(carry, tile):
        peak, total = carry
        tile_rows, tile_row = tile
        logits = _log_kernel(tile_rows, columns)
        u = _balance(tile_row, jax.nn.logsumexp(logits + v[None, :], axis=1))
        logits += u[:, None]
        new_peak = jnp.maximum(peak, logits.max(0))
        total = total * jnp.exp(peak - new_peak) + jnp.exp(logits - new_peak[None, :]).sum(0)
        return (new_peak, total), u

    start = (jnp.full_like(v, NOTHING), jnp.zeros_like(v))
    (peak, total), u = jax.lax.scan(add, start, tiled((rows, row), tile))
    return untiled(u, row.shape[0]), _balance(column, peak + jnp.log(total))


@cache
def _ott():
    """OTT's solver, stopping where its numbers leave the range, and the kernel that it scales."""
    # Constants that a module makes while it is first imported must not belong to our trace.
    with jax.ensure_compile_time_eval(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of OTT's dependencies
        from ott.geometry.geometry import Geometry
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.sinkhorn import Sinkhorn

    @jax.tree_util.register_pytree_node_class
    class Kernel(Geometry):
        def apply_kernel(self, vec, eps=None, axis=0):
            # Not kernel.T @ vec, which on CPU is an order of magnitude slower inside a loop.
            kernel = self._kernel_matrix
            return _product(kernel, vec) if axis == 1 else _product(vec, kernel)

    @jax.tree_util.register_pytree_node_class
    class Scaling(Sinkhorn):
        def _continue(self, state, iteration):
            rows, columns = (_range(jnp.log(s), s > 0) for s in (state.fu, state.gv))
            strayed = jnp.maximum(rows, columns) > CHECK * STEADY
            return super()._continue(state, iteration) & ~strayed

    def scale(kernel, row, column, threshold, iterations):
        """f, g, the error of the plan exp(f)ᵢ kernelᵢⱼ exp(g)ⱼ, and the iterations made."""
        check = min(CHECK, iterations)
        solver = Scaling(
            lse_mode=False, threshold=threshold, max_iterations=iterations, inner_iterations=check
        )
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            problem = LinearProblem(Kernel(kernel_matrix=kernel, epsilon=1.0), a=row, b=column)
            solution = solver(problem, init=(jnp.ones_like(row), jnp.ones_like(column)))
        checks = jnp.sum(solution.errors != -1)
        return solution.f, solution.g, solution.errors[checks - 1], checks * check

    return scale


def _dense_potentials(sweep, log_kernel, row, column, threshold, iterations):
    """u and v by OTT, which scales the plan exp(L + u + v) of the potentials so far.

    It needs no logarithm of numbers in range, and they stay so: the range of the change from one
    iteration to the next never grows, so they stray by at most `CHECK` times the last one between
    two looks at them. Where they have strayed, the plan is made again from new potentials.
    """
    steady = lambda change: ~(_range(change, column > 0) > STEADY)  # NaN ends it
    u, v, count = _sweeps(sweep, column, steady, iterations)
    scale, at_once = _ott(), max(1, iterations // 4)

    def unfinished(state):
        _, _, error, count = state
        return (error > threshold) & (count < iterations)

    def improve(state):
        u, v, _, count = state
        plan = _plan(log_kernel, None, u, v)
        f, g, error, more = scale(plan, row, column, threshold, at_once)
        u, v = (jnp.where(w > 0, p + q, NOTHING) for w, p, q in ((row, u, f), (column, v, g)))
        return u, v, error, count + more

    start = (u, v, jnp.asarray(jnp.inf, u.dtype), count)
    return jax.lax.while_loop(unfinished, improve, start)[:2]


def _streamed_potentials(sweep, column, threshold, iterations):
    """u and v in the log domain, with columns exact and rows within the threshold."""

    def met(change):
        # v_new = v + log(column / column sums of the plan of u and v): the error costs nothing.
        error = jnp.where(column > 0, column * jnp.abs(jnp.expm1(-change)), 0)
        return ~(jnp.sum(error) > threshold)

    return _sweeps(sweep, column, met, iterations)[:2]


def _sweeps(sweep, column, enough, iterations):
    """u, v and the number of sweeps until the last change of v is `enough`."""

    def unfinished(state):
        _, _, change, count = state
        return ~enough(change) & (count < iterations)

    def iterate(state):
        _, v, _, count = state
        u, new_v = sweep(v)
        return u, new_v, new_v - v, count + 1

    # A column without weight must have no say in the first u, which may be the last as well.
    start = iterate((None, jnp.where(column > 0, 0, NOTHING).astype(column.dtype), None, 0))
    u, v, _, count = jax.lax.while_loop(unfinished, iterate, start)
    return u, v, count


def _range(values, where):
    return jnp.max(values, where=where, initial=-jnp.inf) - jnp.min(
        values, where=where, initial=jnp.inf
    )


def _plan_sums(rows, columns, u, v, *, tile):
    """Sums of the plan over its columns and over its rows, a tile of rows at a time."""

    def add(column_sum, rows_and_u):
        tile_rows, tile_u = rows_and_u
        plan = _plan(tile_rows, columns, tile_u, v)
        return column_sum + plan.sum(0), plan.sum(1)

    tiles = (tiled(rows, tile), tiled(u, tile, fill=NOTHING))
    column_sum, row_sum = jax.lax.scan(add, jnp.zeros_like(v), tiles)
    return untiled(row_sum, u.shape[0]), column_sum


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _differentiable(gradient, tile, rows, columns, u, v):
    """u and v as they are, with their derivative by L at the solution of the marginal constraints.

    With r, c the plan's row and column sums and (ū, v̄) the cotangents, the derivative of

        Σⱼ exp(Lᵢⱼ + uᵢ + vⱼ) = aᵢ,  Σᵢ exp(Lᵢⱼ + uᵢ + vⱼ) = bⱼ

    gives L̄ᵢⱼ = −πᵢⱼ (pᵢ + qⱼ) with r⊙p + πq = ū, πᵀp + c⊙q = v̄. Eliminating p leaves a positive
    semidefinite system for q, whose energy norm is that of L̄ in the weights 1/π. To differentiate
    n Sinkhorn iterations at their fixed point is to solve that system by n fixed-point iterations.
    """
    return u, v


def _differentiable_forward(gradient, tile, rows, columns, u, v):
    u, v = _differentiable(gradient, tile, rows, columns, u, v)  # for derivatives of derivatives
    return (u, v), (rows, columns, u, v)


def _differentiable_backward(gradient, tile, saved, cotangent):
    rows, columns, u, v = saved
    u_cotangent, v_cotangent = cotangent
    row_sum, column_sum = _plan_sums(rows, columns, u, v, tile=tile)
    inverse_row = reciprocal(row_sum)
    tiled_rows, tiled_u = tiled(rows, tile), tiled(u, tile, fill=NOTHING)
    # Where L is stored its plan may be too.
    plans = tiled(_plan(rows, None, u, v), tile) if columns is None else tiled_rows

    def through(weigh, numbers):
        """πᵀ w, with w = weigh(π, numbers) for each row, a tile at a time."""

        def add(total, rows_u_numbers):
            plan, tile_u, tile_numbers = rows_u_numbers
            plan = plan if columns is None else _plan(plan, columns, tile_u, v)
            return total + _product(weigh(plan, tile_numbers), plan), None

        return jax.lax.scan(add, jnp.zeros_like(v), (plans, tiled_u, tiled(numbers, tile)))[0]

    solve = fixed_point if gradient == "unroll" else conjugate_gradients
    q = solve(
        lambda q: column_sum * q - through(lambda plan, w: _product(plan, q) * w, inverse_row),
        v_cotangent - through(lambda plan, w: w, inverse_row * u_cotangent),
        column_sum,
    )

    def add(column_cotangent, rows_and_numbers):
        tile_rows, tile_u, tile_inverse, tile_cotangent = rows_and_numbers
        log_kernel, pull = jax.vjp(_log_kernel, tile_rows, columns)
        plan = jnp.exp(log_kernel + tile_u[:, None] + v[None, :])
        p = tile_inverse * (tile_cotangent - _product(plan, q))
        row_cotangent, increment = pull(-plan * (p[:, None] + q[None, :]))
        return jax.tree.map(jnp.add, column_cotangent, increment), row_cotangent

    start = jax.tree.map(jnp.zeros_like, columns)
    tiles = (tiled_rows, tiled_u, tiled(inverse_row, tile), tiled(u_cotangent, tile))
    column_cotangent, row_cotangent = jax.lax.scan(add, start, tiles)
    row_cotangent = jax.tree.map(lambda a: untiled(a, u.shape[0]), row_cotangent)
    return row_cotangent, column_cotangent, None, None


_differentiable.defvjp(_differentiable_forward, _differentiable_backward)


def _product(left, right):
    return jnp.dot(left, right, precision="highest")
