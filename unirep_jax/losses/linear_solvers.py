"""Solvers of the linear systems behind the derivatives of a transport plan."""

import jax
import jax.numpy as jnp

UNROLLED = 20  # iterations differentiated by gradient="unroll"
LINEAR_ITERATIONS = 200  # at most, of the linear solver behind gradient="implicit"


def reciprocal(weights):
    """1 / weights, 0 where there is none."""
    return jnp.where(weights > 0, 1 / jnp.where(weights > 0, weights, 1), 0)


def fixed_point(operator, right_side, diagonal):
    """`UNROLLED` steps towards operator(q) = right_side, as Sinkhorn's iterations make them."""
    inverse = reciprocal(diagonal)
    step = lambda q, _: (q + inverse * (right_side - operator(q)), None)
    return jax.lax.scan(step, jnp.zeros_like(right_side), length=UNROLLED)[0]


def conjugate_gradients(operator, right_side, diagonal):
    """Solves operator(q) = right_side, semidefinite with null vector 1 and about that diagonal."""
    # Its derivative is another solution of the same system, not that of the loop.
    solve = lambda operator, right_side: _iterate(
        operator, right_side, jax.lax.stop_gradient(diagonal)
    )
    return jax.lax.custom_linear_solve(operator, right_side, solve, symmetric=True)


def _iterate(operator, right_side, diagonal):
    inverse = reciprocal(diagonal)
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
