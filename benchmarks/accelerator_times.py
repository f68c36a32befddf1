"""Medians on the device beside PyTorch's, and the share of the floor.

The floor of a case is the longer of two times: of the operations of its matrix products, and of the
bytes that no method avoids reading or writing, at the rates that a large product (in the precision
in which the case makes its own) and a copy reach on the same device. Both are counted by hand, but
for MICU's step, whose operations are those that XLA counts.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import accelerator_torch
import cmcr_step
import jax
import jax.numpy as jnp
import micu_step
import numpy as np
import ours
import peers
from accelerator_machine import median_seconds, rates
from accelerator_rows import Options, Rows
from cases import largest_difference
from peers import Run

CMCR_STEPS, CMCR_FUSED = 8172, 50  # of the paper's whole training, batch 10,240; of one program
SINKHORN_ITERATIONS = 100


# --- cases ---------------------------------------------------------------------------------------


class Timed(NamedTuple):
    """One row: a size, both sides made from the inputs, and what the floor is counted from.

    ours, theirs: inputs -> a call that ends when its result is there (theirs: begins on it);
    flops: of the matrix products, in `precision`; bytes: that are read and written at least;
    tolerance: of the outputs, None where they are not compared.
    """

    name: str
    size: int
    inputs: Callable[[int], dict]
    ours: Callable[[dict], Run]
    theirs: Callable[[dict], Run]
    flops: float
    bytes: float
    precision: str = "default"
    tolerance: float | None = 0.1


def times(rows: Rows, options: Options) -> None:
    ours.BLOCK = (
        64 if options.tiny else 4096
    )  # rows of a tile; what a cache holds is no matter here
    if options.tiny:
        ours.DIM, ours.CODES, cmcr_step.ROWS = 32, 16, 256
    ceilings = rates(options)
    for case in _cases(options.tiny):
        rows.case(f"{case.name}, B = {case.size}", partial(_row, case, ceilings))
    rows.case("MICU's step, O = 2, P = 2", partial(_micu, options.tiny, ceilings))
    rows.case("C-MCR's training, 8,172 steps", partial(_cmcr, options.tiny, ceilings))


def _cases(tiny: bool) -> list[Timed]:
    sizes = lambda *large: (48,) if tiny else large
    return [
        *map(_info_nce, sizes(4096, 10240, 32768)),
        *map(_volume, sizes(4096)),
        *map(_codebook, sizes(4096, 65536)),
        *map(_sinkhorn_streamed, sizes(4096, 16384)),
        *map(_sinkhorn_dense, sizes(4096, 16384)),
        _aggregation(*((32, 256) if tiny else (16384, 2**20))),
    ]


def _info_nce(size: int) -> Timed:
    arrays = 4 * size * ours.DIM * 4.0  # two inputs, two gradients
    return Timed(
        "symmetric InfoNCE, forward + backward",
        size,
        ours.pair_inputs,
        lambda inputs: ours.info_nce(inputs, None),
        peers.symmetric_info_nce,
        3 * 2.0 * size**2 * ours.DIM,
        arrays,
    )


def _volume(size: int) -> Timed:
    theirs = partial(peers.volume_matrix, volumes=peers.written_out_volumes)
    return Timed(
        "volume matrix, k = 3, forward",
        size,
        ours.volume_inputs,
        lambda inputs: ours.volumes(inputs, None),
        theirs,
        2 * 2.0 * size**2 * ours.DIM,
        4.0 * (size**2 + 3 * size * ours.DIM),
    )


def _codebook(size: int) -> Timed:
    return Timed(
        f"codebook of {ours.CODES}, step",
        size,
        ours.codebook_inputs,
        lambda inputs: ours.quantize(inputs, None),
        accelerator_torch.codebook_step,
        2 * 2.0 * size * ours.CODES * ours.DIM,
        4.0 * 3 * size * ours.DIM,
        "highest",
        None,
    )


def _sinkhorn_dense(size: int) -> Timed:
    return _sinkhorn("Sinkhorn, dense, 100 iterations", size, {})


def _sinkhorn_streamed(size: int) -> Timed:
    return _sinkhorn("Sinkhorn, streamed, 100 iterations", size, {"block_size": ours.BLOCK})


def _sinkhorn(name: str, size: int, settings: dict) -> Timed:
    """The floor is that of the dense form: one reading of the matrix in each iteration."""

    def plan(inputs):
        iterations = {"iterations": inputs["iterations"], **settings}
        return ours.plan_to(inputs, np.float32(0), **iterations)

    def inputs(size):
        x, y = ours.related_vectors(size, 2, 0.31)
        return {"x": x, "y": y, "epsilon": 0.05, "iterations": SINKHORN_ITERATIONS}

    return Timed(
        name,
        size,
        inputs,
        plan,
        accelerator_torch.log_domain_plan,
        2.0 * size**2 * ours.DIM,
        4.0 * size**2 * (SINKHORN_ITERATIONS + 1),
        "highest",
    )


def _aggregation(queries: int, items: int) -> Timed:
    def inputs(size):
        keys = jax.random.split(jax.random.key(0), 2)
        drawn = [
            jax.random.normal(k, (n, ours.DIM)) for k, n in zip(keys, (queries, size), strict=True)
        ]
        unit = [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in drawn]
        return {
            "queries": unit[0].astype(jnp.bfloat16),
            "memory": unit[1].astype(jnp.bfloat16),
            "temperature": 0.05,
        }

    return Timed(
        f"soft aggregation of B items for {queries} queries, bf16",
        items,
        inputs,
        lambda inputs: ours.aggregate(inputs, None),
        accelerator_torch.attention,
        4.0 * queries * items * ours.DIM,
        2.0 * (items + queries) * ours.DIM,
        "bf16",
    )


# --- rows ----------------------------------------------------------------------------------------


def _row(case: Timed, ceilings: dict[str, float]) -> dict:
    inputs = case.inputs(case.size)
    run = case.ours(inputs)
    output = jax.tree.map(np.asarray, run())
    row = {"ours_ms": 1e3 * median_seconds(run)}
    row |= _floor(row["ours_ms"], case.flops, case.bytes, case.precision, ceilings)
    del run  # and what it holds on the device
    return row | _beside(
        lambda: case.theirs(inputs), row["ours_ms"], case.precision, case.tolerance, output
    )


def _beside(
    make: Callable[[], Run], ms: float, precision: str, tolerance: float | None, output: tuple
) -> dict:
    """PyTorch's part of a row; what it ends with, a full memory say, leaves ours as it is."""
    if importlib.util.find_spec("torch") is None:
        return {"note": "PyTorch is not installed"}
    try:
        run, wait, where = _on_torch(make, precision)
        theirs = run()
        row = {"PyTorch_ms": 1e3 * median_seconds(run, wait), "note": f"PyTorch on {where}"}
    except Exception as error:
        return {"note": f"PyTorch: {type(error).__name__}: {error}"}
    row["ratio"] = row["PyTorch_ms"] / ms
    if tolerance is not None:
        theirs = tuple(value.detach().float().cpu().numpy() for value in theirs)
        row |= largest_difference(output, theirs)
        row["status"] = "ok" if row["difference"] <= tolerance else "failed"
    return row


def _floor(ms: float, flops: float, moved: float, precision: str, ceilings: dict) -> dict:
    products = 1e3 * flops / ceilings[precision]
    memory = 1e3 * moved / ceilings["copy"]
    floor = max(products, memory)
    bound = "products" if products >= memory else "memory"
    return {"floor_ms": floor, "of_floor": floor / ms, "bound": f"{bound}, {precision}"}


def _on_torch(make: Callable[[], Run], precision: str) -> tuple[Run, Callable[[], None], str]:
    """A call on the device that PyTorch sees, how to wait for it, and its name.

    Products of float32 are as precise there as ours: TF32 where ours have the default precision.
    """
    import torch

    if not torch.cuda.is_available():
        peers.same_threads()
        return make(), lambda: None, "the processor"
    torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
    torch.set_default_device("cuda")
    return make(), torch.cuda.synchronize, torch.cuda.get_device_name()


def _micu(tiny: bool, ceilings: dict[str, float]) -> dict:
    shapes = micu_step.SHAPES
    if tiny:
        shapes = {"audio": (4, 6), "video": (4, 2, 2, 8), "text": (4, 5)}
    engine, state, batch = micu_step.prepared("paper", 2, 2, shapes)
    program, step = engine.compiled(state, batch)
    cost = program.cost_analysis() or {}
    moved = sum(x.nbytes for x in jax.tree.leaves((state, batch)))
    placed = [state]

    def run():
        placed[0], metrics = step(placed[0], batch)
        return float(metrics["loss"])

    run()
    row = {"B": micu_step.BATCH, "ours_ms": 1e3 * median_seconds(run)}
    return row | _floor(row["ours_ms"], cost.get("flops", 0.0), moved, "default", ceilings)


def _cmcr(tiny: bool, ceilings: dict[str, float]) -> dict:
    """From a program of some steps to the whole training."""
    batch, fused = (64, 2) if tiny else (10240, CMCR_FUSED)
    run = cmcr_step.ours(batch, 0.004, fused=fused, block_size=batch if tiny else 4096)
    run()
    row = {"B": batch, "ours_ms": 1e3 * median_seconds(run) / fused}
    flops, moved = cmcr_work(batch)
    row |= _floor(row["ours_ms"], flops, moved, "default", ceilings)
    row["training_s"] = CMCR_STEPS * row["ours_ms"] / 1e3
    return row | _beside(
        lambda: cmcr_step.theirs(batch, 0.004), row["ours_ms"], "default", None, ()
    )


def cmcr_work(batch: int, dim: int = 512, hidden: int = 1024) -> tuple[float, float]:
    """Operations and bytes of a step that no method avoids.

    Two projectors of two layers on two streams each: forward, gradient of the weights, and of the
    hidden layer; two losses of three products each. Four streams are read.
    """
    projectors = 2 * (2 + 3) * 2.0 * (2 * batch) * dim * hidden
    return projectors + 2 * 3 * 2.0 * batch**2 * dim, 4.0 * 4 * batch * dim
