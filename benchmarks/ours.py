"""Our side of each comparison, and the inputs of both.

Inputs are a dictionary for a size. Each other function takes them and what the peer gave, None
where there was no peer, and returns a call without arguments, compiled, which is what is timed.
"""

from collections.abc import Callable

import numpy as np
from peers import Run

DIM, CODES, MEMBERS = 512, 512, 3
QUERIES = 4096  # of a memory
BLOCK = 512  # rows at a time above 1024, where whole matrices would not stay in the cache


def compiled(function: Callable, *arguments) -> Run:
    """Our side, compiled for these arguments; a call ends when the result is there."""
    import jax

    arguments = jax.device_put(arguments)
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def related_vectors(size: int, count: int, cosine: float) -> list[np.ndarray]:
    """`count` sets of unit vectors; of that cosine with their counterparts in the first set."""
    rng = np.random.default_rng(0)
    first, *others = _unit(rng.standard_normal((count, size, DIM)))
    noise = np.sqrt(1 - cosine**2)
    return [first, *(_unit(cosine * first + noise * other) for other in others)]


def marginal_error(plan) -> float:
    plan = np.asarray(plan, np.float64)
    return sum(float(np.abs(plan.sum(axis) - 1 / len(plan)).sum()) for axis in (0, 1))


# --- volumes -------------------------------------------------------------------------------------


def volume_inputs(size: int) -> dict:
    vectors = tuple(related_vectors(size, MEMBERS, 0.4))
    return {"vectors": vectors, "temperature": 0.07, "label_smoothing": 0.1}


def volumes(inputs, _):
    from unirep_jax.losses import volume_matrix

    block = _block(len(inputs["vectors"][0]))
    run = lambda *vectors: (volume_matrix(*vectors, block_size=block),)
    return compiled(run, *inputs["vectors"])


def mean_volume_gradients(inputs, _):
    import jax

    from unirep_jax.losses import volume_matrix

    block = _block(len(inputs["vectors"][0]))
    mean = lambda *vectors: volume_matrix(*vectors, block_size=block).mean()
    return compiled(jax.grad(mean, tuple(range(MEMBERS))), *inputs["vectors"])


def volume_loss(inputs, _):
    import jax

    from unirep_jax.losses import volume_info_nce

    def loss(*vectors):
        there, back = volume_info_nce(
            *vectors,
            temperature=inputs["temperature"],
            label_smoothing=inputs["label_smoothing"],
            block_size=_block(len(vectors[0])),
        )
        return (there + back).mean() / 2

    return compiled(_flat(jax.value_and_grad(loss, tuple(range(MEMBERS)))), *inputs["vectors"])


def _block(size):
    return BLOCK if size > 1024 else None


def _flat(value_and_gradients):
    def run(*arguments):
        value, gradients = value_and_gradients(*arguments)
        return value, *gradients

    return run


# --- InfoNCE -------------------------------------------------------------------------------------


def pair_inputs(size: int) -> dict:
    x, y = related_vectors(size, 2, 0.1)  # a loss that is neither 0 nor large
    return {"x": x, "y": y, "temperature": 0.01}


def info_nce(inputs, _):
    import jax

    from unirep_jax.losses import symmetric_info_nce

    def loss(x, y):
        settings = {"temperature": inputs["temperature"], "block_size": _block(len(x))}
        return symmetric_info_nce(x, y, **settings).mean()

    return compiled(_flat(jax.value_and_grad(loss, (0, 1))), inputs["x"], inputs["y"])


# --- aggregation of a memory ---------------------------------------------------------------------


def memory_inputs(size: int) -> dict:
    """Queries for which neither one item of the memory counts alone nor all do alike."""
    rng = np.random.default_rng(0)
    memory = _unit(rng.standard_normal((size, DIM), dtype=np.float32))
    noise = _unit(rng.standard_normal((QUERIES, DIM), dtype=np.float32))
    queries = _unit(0.2 * memory[np.arange(QUERIES) % size] + noise)
    return {"queries": queries, "memory": memory, "temperature": 0.01}


def aggregate(inputs, _):
    from unirep_jax.losses import soft_aggregate

    run = lambda *both: (soft_aggregate(*both, temperature=inputs["temperature"]),)
    return compiled(run, inputs["queries"], inputs["memory"])


# --- Sinkhorn ------------------------------------------------------------------------------------


def transport_inputs(size: int) -> dict:
    x, y = related_vectors(size, 2, 0.31)  # between random and aligned: the slowest to converge
    weights = np.random.default_rng(1).standard_normal((size, size), dtype=np.float32)
    return {"x": x, "y": y, "epsilon": 0.05, "iterations": 100, "weights": weights}


def converging_inputs(size: int) -> dict:
    """Where 30 iterations come close enough to the solution for gradients to be compared."""
    x, y = related_vectors(size, 2, 0.2)
    return transport_inputs(size) | {"x": x, "y": y, "iterations": 30}


def _threshold(reached: tuple | None) -> np.float32:
    """The peer's own marginal error; below 10⁻⁵ both are at the rounding of float32."""
    return np.float32(1e-3 if reached is None else max(marginal_error(reached[0]), 1e-5))


def plan(inputs, reached):
    return plan_to(inputs, _threshold(reached))


def fixed_plan(inputs, _):
    """As many iterations as the peer makes."""
    return plan_to(inputs, np.float32(0), iterations=inputs["iterations"])


def plan_to(inputs, threshold, **settings):
    from unirep_jax.losses import sinkhorn_plan

    def run(x, y, threshold):
        return (
            sinkhorn_plan(x, y, epsilon=inputs["epsilon"], threshold=threshold, **settings).plan,
        )

    return compiled(run, inputs["x"], inputs["y"], threshold)


def cost_gradients(inputs, reached):
    import jax
    import jax.numpy as jnp

    from unirep_jax.losses import sinkhorn_plan

    def cost(x, y, threshold):
        plan = sinkhorn_plan(x, y, epsilon=inputs["epsilon"], threshold=threshold).plan
        squares = (plan.sum(1)[:, None] * x * x).sum() + (plan.sum(0)[:, None] * y * y).sum()
        return squares - 2 * jnp.sum(x * (plan @ y)), plan

    def run(x, y, threshold):
        gradients, plan = jax.grad(cost, (0, 1), has_aux=True)(x, y, threshold)
        return plan, *gradients

    return compiled(run, inputs["x"], inputs["y"], _threshold(reached))


def plan_gradients(inputs, reached):
    import jax
    import jax.numpy as jnp

    from unirep_jax.losses import sinkhorn_plan

    def loss(x, y, weights, threshold):
        plan = sinkhorn_plan(
            x, y, epsilon=inputs["epsilon"], threshold=threshold, gradient="implicit"
        ).plan
        return jnp.sum(plan * weights), plan

    def run(*arguments):
        gradients, plan = jax.grad(loss, (0, 1), has_aux=True)(*arguments)
        return plan, *gradients

    return compiled(run, inputs["x"], inputs["y"], inputs["weights"], _threshold(reached))


# --- codebook and metrics ------------------------------------------------------------------------


def codebook_inputs(size: int) -> dict:
    rng = np.random.default_rng(0)
    z, weights = rng.standard_normal((2, size, DIM), dtype=np.float32)
    codebook = rng.standard_normal((CODES, DIM), dtype=np.float32)
    return {"z": z, "weights": weights, "codebook": codebook, "decay": 0.9}


def quantize(inputs, _):
    import jax
    import jax.numpy as jnp

    from unirep_jax.losses import (
        CodebookState,
        commitment_loss,
        ema_codebook_update,
        nearest_code,
        straight_through,
    )

    def loss(z, state, weights):
        indices = nearest_code(z, state.codebook)
        code = state.codebook[indices]
        new = ema_codebook_update(state, z[None], indices[None], decay=inputs["decay"])
        value = commitment_loss(z, code).mean() + (straight_through(z, code) * weights).mean()
        return value, (indices, new.codebook)

    def run(*arguments):
        gradient, outputs = jax.grad(loss, has_aux=True)(*arguments)
        return *outputs, gradient

    codebook = inputs["codebook"]
    ones, age = np.ones(CODES, np.float32), np.zeros(CODES, np.int32)
    state = CodebookState(codebook, ones, codebook, jnp.asarray(age))
    return compiled(run, inputs["z"], state, inputs["weights"])


def score_inputs(size: int) -> dict:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal([[1.0], [0.0]], 1.0, (2, size // 2)).astype(np.float32).round(3)
    return {"known": known, "unknown": unknown, "correct": rng.random(size // 2) < 0.8}


def auroc_and_aupr(inputs, _):
    from unirep_jax.metrics import aupr, auroc

    known, unknown = inputs["known"], inputs["unknown"]
    return lambda: (auroc(known, unknown), aupr(known, unknown))


def open_set_metrics(inputs, _):
    from unirep_jax.metrics import aupr, auroc, oscr

    known, unknown, correct = (inputs[name] for name in ("known", "unknown", "correct"))
    return lambda: (
        auroc(known, unknown),
        aupr(known, unknown, convention="trapezoid"),
        oscr(known, unknown, correct),
    )
