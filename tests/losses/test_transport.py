"""Sinkhorn plans against POT's reference files, a float64 loop, and finite differences."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax.losses.transport import sinkhorn_plan

ROW, COLUMN, DIM = 12, 9, 5

# Started anywhere, a loss of the plan that no choice of potentials can imitate.
WEIGHTS = np.random.default_rng(7).normal(size=(ROW, COLUMN)).astype(np.float32)


def unit_vectors(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def x_and_y(rng):
    return unit_vectors(rng, ROW, DIM), unit_vectors(rng, COLUMN, DIM)


def loop_plan(x, y, epsilon, row, column, iterations=20_000):
    """Sinkhorn's algorithm in float64, in the log domain."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    log_kernel = -((x[:, None] - y[None]) ** 2).sum(-1) / epsilon
    v = np.zeros(len(y))
    with np.errstate(divide="ignore"):
        log_row, log_column = np.log(row), np.log(column)
    for _ in range(iterations):
        before = v
        u = log_row - np.logaddexp.reduce(log_kernel + v[None], axis=1)
        v = log_column - np.logaddexp.reduce(log_kernel + u[:, None], axis=0)
        if np.abs(np.exp(v) - np.exp(before)).max() < 1e-15:
            break
    return np.exp(log_kernel + u[:, None] + v[None])


def uniform(count):
    return np.full(count, 1 / count)


@partial(jax.jit, static_argnames=("gradient", "block_size", "iterations"))
def loss_and_gradient(x, y, epsilon, **settings):
    def loss(x, y, epsilon):
        plan = sinkhorn_plan(x, y, epsilon=epsilon, **settings).plan
        return jnp.sum(jnp.asarray(WEIGHTS, plan.dtype) * plan)

    return jax.value_and_grad(loss, (0, 1, 2))(x, y, epsilon)


@pytest.mark.parametrize("epsilon", ["0.01", "0.05", "0.1", "1.0"])
@pytest.mark.parametrize("block_size", [None, 16])
def test_plan_agrees_with_the_reference_file(oracle, epsilon, block_size):
    reference = oracle(f"sinkhorn_eps{epsilon}")
    result = sinkhorn_plan(
        reference["x"],
        reference["y"],
        epsilon=float(epsilon),
        threshold=1e-4,
        block_size=block_size,
    )
    assert result.converged and result.marginal_error <= 1e-4
    np.testing.assert_allclose(result.plan, reference["plan"], atol=2e-5)
    assert np.abs(result.plan - reference["plan"]).sum() < 3e-4


@pytest.mark.parametrize("block_size", [None, 5])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 1e-1, 1.0])
def test_marginals_hold_from_the_smallest_epsilon_to_the_largest(rng, epsilon, block_size):
    x, y = unit_vectors(rng, 2, 64, 32)  # nothing matches, the slow case
    result = sinkhorn_plan(x, y, epsilon=epsilon, block_size=block_size)
    assert result.converged
    row_error = np.abs(result.plan.sum(1) - 1 / 64).sum()
    column_error = np.abs(result.plan.sum(0) - 1 / 64).sum()
    np.testing.assert_allclose(result.marginal_error, row_error + column_error, atol=1e-5)
    assert result.marginal_error <= 1e-3


@pytest.mark.parametrize("block_size", [None, 5])
def test_potentials_and_cost_make_the_plan(x_and_y, block_size):
    x, y = x_and_y
    result = sinkhorn_plan(x, y, epsilon=0.1, block_size=block_size)
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    exponent = result.row_potential[:, None] + result.column_potential[None] - cost
    np.testing.assert_allclose(np.exp(exponent / 0.1), result.plan, rtol=1e-4)


@pytest.mark.parametrize("block_size", [None, 5])
def test_given_marginals_are_normalised_and_met_and_weight_zero_removes(rng, x_and_y, block_size):
    x, y = x_and_y
    row, column = rng.uniform(1, 3, ROW), rng.uniform(1, 3, COLUMN)
    row[[0, 4]] = column[2] = 0
    hole = np.where(row[:, None] > 0, x, np.nan).astype(np.float32)
    result = sinkhorn_plan(
        hole,
        y,
        epsilon=0.2,
        threshold=1e-5,
        block_size=block_size,
        marginals=(row.astype(np.float32), column.astype(np.float32)),
    )
    expected = loop_plan(x, y, 0.2, row / row.sum(), column / column.sum())
    np.testing.assert_allclose(result.plan, expected, atol=1e-5)
    assert np.isneginf(result.row_potential[0]) and np.isfinite(result.row_potential[1])
    assert result.converged


@pytest.mark.parametrize("gradient", ["stop", "unroll", "implicit"])
@pytest.mark.parametrize("block_size", [None, 5])
def test_all_weight_removed_gives_a_zero_plan_and_no_gradient(x_and_y, gradient, block_size):
    nothing = np.zeros(ROW, bool), np.zeros(COLUMN, bool)
    settings = {"marginals": nothing, "gradient": gradient, "block_size": block_size}
    plan = sinkhorn_plan(*x_and_y, epsilon=0.1, **settings).plan
    np.testing.assert_array_equal(plan, 0)
    for leaf in loss_and_gradient(*x_and_y, 0.1, **settings)[1]:
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("block_size", [None, 5])
def test_columns_without_weight_do_not_slow_the_others_down(x_and_y, block_size):
    column = np.arange(COLUMN) == 4  # everything goes there: solved by one iteration
    result = sinkhorn_plan(
        *x_and_y,
        epsilon=0.01,
        marginals=(np.ones(ROW, bool), column),
        iterations=1,
        block_size=block_size,
    )
    np.testing.assert_allclose(result.plan, np.outer(uniform(ROW), column), atol=1e-6)


def test_pairs_are_solved_as_if_alone(rng):
    x, y = unit_vectors(rng, 2, 3, ROW, DIM), unit_vectors(rng, 2, 3, COLUMN, DIM)
    row = rng.random((3, ROW)) > 0.3
    column = np.ones((1, COLUMN), bool)
    together = sinkhorn_plan(x, y, epsilon=0.3, marginals=(row, column), threshold=1e-5)
    assert together.converged.shape == (2, 3)
    for pair in np.ndindex(2, 3):
        alone = sinkhorn_plan(
            x[pair], y[pair], epsilon=0.3, marginals=(row[pair[1]], column[0]), threshold=1e-5
        )
        np.testing.assert_allclose(together.plan[pair], alone.plan, atol=1e-5)


def test_too_few_iterations_are_reported_and_not_hidden(x_and_y):
    result = sinkhorn_plan(*x_and_y, epsilon=0.01, iterations=2)
    assert not result.converged and result.marginal_error > 1e-3
    assert np.isfinite(result.plan).all()


# --- gradient policies ---------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [None, 5])
def test_stop_gives_a_constant_plan(x_and_y, block_size):
    _, gradient = loss_and_gradient(*x_and_y, 0.1, gradient="stop", block_size=block_size)
    for leaf in gradient:
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("block_size", [None, 5])
@pytest.mark.parametrize(("gradient", "epsilon"), [("implicit", 0.05), ("unroll", 1.0)])
def test_gradient_is_that_of_finite_differences(x64, rng, gradient, epsilon, block_size):
    x, y = rng.normal(size=(ROW, DIM)) / 2, rng.normal(size=(COLUMN, DIM)) / 2
    settings = {"threshold": 1e-12, "iterations": 20_000, "block_size": block_size}
    _, ours = loss_and_gradient(x, y, epsilon, gradient=gradient, **settings)
    step = 1e-5
    for argument in range(3):
        direction = rng.normal(size=np.shape((x, y, epsilon)[argument]))
        ends = []
        for sign in (1, -1):
            moved = [x, y, epsilon]
            moved[argument] = moved[argument] + sign * step * direction
            ends.append(float(loss_and_gradient(*moved, **settings)[0]))
        expected = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(np.sum(ours[argument] * direction), expected, rtol=1e-5)


def test_float32_gradients_come_close_to_the_float64_ones_at_a_moderate_epsilon(x_and_y):
    exact_settings = {"gradient": "implicit", "threshold": 1e-12, "iterations": 20_000}
    with jax.enable_x64(True):
        wide = [v.astype(np.float64) for v in x_and_y]
        _, exact = loss_and_gradient(*wide, 0.2, **exact_settings)
    for gradient, tolerance in (("implicit", 2e-3), ("unroll", 2e-2)):
        _, ours = loss_and_gradient(*x_and_y, 0.2, gradient=gradient, threshold=1e-4)
        for a, b in zip(ours, exact, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("epsilon", [1e-3, 0.02])
def test_a_plan_that_is_a_permutation_has_almost_no_gradient_by_any_policy(rng, epsilon):
    x = unit_vectors(rng, COLUMN, 64)  # its linear system is singular to the last digit
    weights = WEIGHTS[:COLUMN]
    for gradient in ("unroll", "implicit"):

        def loss(x, y, gradient=gradient):
            return jnp.sum(weights * sinkhorn_plan(x, y, epsilon=epsilon, gradient=gradient).plan)

        for leaf in jax.jit(jax.grad(loss, (0, 1)))(x, x):
            np.testing.assert_allclose(leaf, 0, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0, 1e-4, 0.1, 1]),
    epsilon=st.floats(1e-3, 1),
    row=st.lists(st.booleans(), min_size=ROW, max_size=ROW),
    copies=st.integers(1, COLUMN),
)
def test_any_input_gives_a_plan_and_gradient_that_are_finite(seed, noise, epsilon, row, copies):
    rng = np.random.default_rng(seed)
    x = unit_vectors(rng, ROW, DIM)
    y = (x[:COLUMN] + noise * rng.normal(size=(COLUMN, DIM))).astype(np.float32)
    y[:copies] = y[0]
    marginals = np.array(row), np.ones(COLUMN, bool)
    for gradient in ("unroll", "implicit"):
        value, slopes = loss_and_gradient(
            x, y, epsilon, gradient=gradient, marginals=marginals, iterations=100
        )
        assert np.abs(value) <= np.abs(WEIGHTS).max() * 1.1
        assert all(np.isfinite(leaf).all() for leaf in slopes)


# --- form ----------------------------------------------------------------------------------------


def test_the_streamed_form_never_stores_a_matrix_that_nobody_asked_for():
    rows, columns, block_size = 4096, 512, 64
    x, y = (jax.ShapeDtypeStruct((n, 8), jnp.float32) for n in (rows, columns))

    def bytes_of(field, block_size):
        def solve(x, y):
            return getattr(sinkhorn_plan(x, y, epsilon=0.1, block_size=block_size), field)

        memory = jax.jit(solve).lower(x, y).compile().memory_analysis()
        return memory.temp_size_in_bytes

    matrix = 4 * rows * columns
    assert bytes_of("row_potential", block_size) < matrix / 4
    assert bytes_of("row_potential", None) >= matrix


def test_half_precision_is_read_exactly_and_solved_in_float32(x_and_y):
    half = [jnp.asarray(v, jnp.bfloat16) for v in x_and_y]
    result = sinkhorn_plan(*half, epsilon=0.1)
    assert result.plan.dtype == jnp.float32
    exact = sinkhorn_plan(*(v.astype(jnp.float32) for v in half), epsilon=0.1)
    np.testing.assert_allclose(result.plan, exact.plan, rtol=1e-5)
    _, gradient = loss_and_gradient(*half, 0.1, gradient="implicit")
    assert gradient[0].dtype == jnp.bfloat16 and np.isfinite(gradient[0].astype(np.float32)).all()


def test_a_sweep_of_epsilons_and_thresholds_compiles_once(x_and_y):
    x, y = (v[:-1] for v in x_and_y)
    before = sinkhorn_plan._cache_size()
    for epsilon, threshold in ((0.1, 1e-3), (0.2, 1e-3), (0.5, 1e-2)):
        sinkhorn_plan(x, y, epsilon=epsilon, threshold=threshold)
    assert sinkhorn_plan._cache_size() == before + 1


def test_ott_is_imported_by_the_first_dense_plan_and_leaves_nothing_in_its_trace():
    program = """
import sys, numpy as np, jax
from unirep_jax.losses.transport import sinkhorn_plan
assert "ott" not in sys.modules
x = np.eye(4, dtype=np.float32)
sinkhorn_plan(x, x, epsilon=0.1, block_size=2)
assert "ott" not in sys.modules
for scale in (1, 2):  # the second trace would meet whatever the first had left in a module
    jax.jit(lambda x: sinkhorn_plan(scale * x, x, epsilon=0.1).plan)(x)
assert "ott" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
