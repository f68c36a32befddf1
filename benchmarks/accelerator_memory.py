"""The peak memory of kernels against the formulas of docs/scaling.md.

Beside the device's own peak stands what XLA plans for the program: arguments, results and
temporary arrays. A process has one peak, so cases run from the smallest to the largest; one that
does not raise the peak of those before it has no measured number.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from accelerator_rows import Options, Rows

from unirep_jax import losses

DIM, QUERIES = 512, 4096
ALLOWED = 1.5  # times the formula, of the device's own peak


class Shape(NamedTuple):
    """Examples (or items of a memory), rows of a block."""

    size: int
    block: int


def contrast_bytes(shape: Shape) -> float:
    """Both inputs, their gradients and the gradients' sums; two tiles of block x batch."""
    return 4.0 * (6 * shape.size * DIM + 2 * shape.block * shape.size)


def aggregation_bytes(shape: Shape) -> float:
    """The memory in bfloat16; queries, sums and result; three tiles of query x block."""
    return 2.0 * shape.size * DIM + 4.0 * (3 * QUERIES * DIM + 3 * QUERIES * shape.block)


def plan_bytes(shape: Shape) -> float:
    """Both inputs and the scaled one; the logits and the plan."""
    return 4.0 * (3 * shape.size * DIM + 2 * shape.size**2)


def streamed_bytes(shape: Shape) -> float:
    """Where the plan itself is not used: three tiles of block x batch."""
    return 4.0 * (3 * shape.size * DIM + 3 * shape.block * shape.size)


def memory(rows: Rows, options: Options) -> None:
    sized = lambda large: Shape(256, 64) if options.tiny else large
    cases = [
        ("soft aggregation", sized(Shape(2**17, 2048)), _aggregation, aggregation_bytes),
        ("Sinkhorn, streamed, potentials", sized(Shape(16384, 1024)), _streamed, streamed_bytes),
        ("symmetric InfoNCE, gradient", sized(Shape(32768, 4096)), _contrast, contrast_bytes),
        ("Sinkhorn, dense, plan", sized(Shape(16384, 0)), _plan, plan_bytes),
    ]
    for name, shape, make, formula in sorted(cases, key=lambda case: case[3](case[1])):
        rows.case(name, partial(_row, shape, make, formula(shape)))


def _row(shape: Shape, make: Callable[[Shape], tuple], formula: float) -> dict:
    function, inputs = make(shape)
    program = jax.jit(function).lower(*inputs).compile()
    planned = program.memory_analysis()
    counted = sum(
        getattr(planned, f"{part}_size_in_bytes") for part in ("argument", "output", "temp")
    )
    before = _peak()
    jax.block_until_ready(program(*(jnp.zeros(x.shape, x.dtype) for x in inputs)))
    after = _peak()
    mebi = lambda size: round(size / 2**20, 2)
    row = {"B": shape.size, "block": shape.block, "formula_mib": mebi(formula)}
    row |= {"xla_mib": mebi(counted), "xla_of_formula": counted / formula}
    if after is None:
        row["note"] = "the device does not say its peak"
    elif after == before:
        row["note"] = "below the peak of the cases before"
    else:
        row |= {"peak_mib": mebi(after), "peak_of_formula": after / formula}
    return row | {"status": "ok" if row.get("peak_of_formula", 0) <= ALLOWED else "failed"}


def _peak() -> int | None:
    """Bytes, since the process began."""
    statistics = jax.devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else None


def _pair(shape: Shape) -> tuple[Any, Any]:
    return (jax.ShapeDtypeStruct((shape.size, DIM), jnp.float32),) * 2


def _contrast(shape: Shape) -> tuple:
    def loss(x, y):
        return losses.symmetric_info_nce(x, y, temperature=0.1, block_size=shape.block).mean()

    return jax.grad(loss, (0, 1)), _pair(shape)


def _aggregation(shape: Shape) -> tuple:
    half = partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    run = partial(losses.soft_aggregate, temperature=0.1, block_size=shape.block)
    return run, (half((QUERIES, DIM)), half((shape.size, DIM)))


def _plan(shape: Shape) -> tuple:
    return partial(losses.sinkhorn_plan, epsilon=0.05, iterations=20), _pair(shape)


def _streamed(shape: Shape) -> tuple:
    def potentials(x, y):
        plan = losses.sinkhorn_plan(x, y, epsilon=0.05, iterations=20, block_size=shape.block)
        return plan.row_potential, plan.column_potential

    return potentials, _pair(shape)
