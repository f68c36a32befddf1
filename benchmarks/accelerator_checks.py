"""Every public kernel on the device against float64 on the CPU, twice, and over all devices.

How far apart they may be, relative to the largest entry of the output or gradient:

float32   products at full precision ("highest")                                   1e-3
tf32      products at the default precision: GPUs read float32 with 11 bits of
          mantissa and TPUs bfloat16, whose error a temperature multiplies         0.1
bf16      inputs in bfloat16, and so gradients, which are rounded to 8 bits         0.1

Kernels that choose (`DECIDES`) may choose otherwise where two are as good: 1 % of what they give
may be further apart than that. Where draws depend on the width of a float, the CPU has float32.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from accelerator_rows import Options, Rows, Skipped
from every_kernel import EXAMPLES, SIZES, Example, floats, total

from unirep_jax import losses

BATCH = 4096
# Matrices of every pair of examples in several dimensions, or a cube of them, on the CPU too.
SMALLER = {
    "club_upper_bound": 1024,
    "code_matching_loss": 1024,
    "cross_predictive_coding": 1024,
    "fine_coarse_info_nce": 256,
    "multimarginal_plan": 128,
    "sample_groups": 256,
    "sinkhorn_plan": 512,
    "top_groups": 256,
    "transport_volume_loss": 64,
}
# Of squared distances, which in more dimensions would leave nothing but a diagonal.
FEW_DIMENSIONS = {"maximum_mean_discrepancy", "multimarginal_plan", "sinkhorn_plan"}
LARGE = ("batch", "column", "item", "query", "row", "token")
BLOCK = 1024  # of kernels that have blocks
DECIDES = {
    "agreement",
    "argmax_aggregate",
    "candidate_pairs",
    "fairness",
    "most_confident",
    "nearest_code",
    "nearest_correspondence",
    "nearest_pairs",
    "noisy_top_k_gates",
    "pseudo_label_loss",
    "pseudo_labels",
    "restart_dead_codes",
    "top_groups",
    "top_k_gates",
    "update_thresholds",
}
OTHERWISE = 0.01  # share of what such a kernel gives
# Their gradient is the solution of a nearly singular system: 1e-2 was seen on CPUs in float32.
SOLVED, SOLVED_TOLERANCE = {"sinkhorn_plan"}, 0.05


def _with_options(name: str, **options) -> Example:
    return dataclasses.replace(EXAMPLES[name], options={**EXAMPLES[name].options, **options})


# Transport to an error that float32 reaches too; and the form of it that needs no OTT.
CALLS = {
    **EXAMPLES,
    "multimarginal_plan": _with_options("multimarginal_plan", threshold=1e-4),
    "sinkhorn_plan": _with_options("sinkhorn_plan", threshold=1e-4),
    "sinkhorn_plan, streamed": _with_options("sinkhorn_plan", threshold=1e-4, block_size=128),
}


class Precision(NamedTuple):
    """Of products of matrices, of the inputs, and how far what comes out may be from float64."""

    products: str
    inputs: type
    tolerance: float


PRECISIONS = {
    "float32": Precision("highest", np.float32, 1e-3),
    "tf32": Precision("default", np.float32, 0.1),
    "bf16": Precision("default", jnp.bfloat16, 0.1),
}


def kernels(rows: Rows, options: Options) -> None:
    """A row for each kernel; several at a time, since most of their time is compilation."""
    _each_kernel(rows, lambda name: checked(name, _sizes(name, options.tiny)))


def repeated(rows: Rows, options: Options) -> None:
    """The same under --xla_gpu_deterministic_ops, where two runs have to agree bit by bit."""

    def row(name: str) -> dict:
        sizes = _sizes(name, options.tiny)
        run = partial(evaluated, name, _rounded(name, sizes, PRECISIONS["tf32"]), "default")
        equal = _bits(run()) == _bits(run())
        return {"bitwise": equal} if equal else {"status": "failed", "note": "two runs differ"}

    _each_kernel(rows, row)


def _each_kernel(rows: Rows, row) -> None:
    names = [n for n in CALLS if not rows.only or any(word in n for word in rows.only)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda name: rows.case(name, partial(row, name)), names))


def _sizes(name: str, tiny: bool) -> dict[str, int]:
    if tiny:
        return SIZES
    batch = SMALLER.get(_kernel(name), BATCH)
    dim = SIZES["dim"] if _kernel(name) in FEW_DIMENSIONS else 16
    return {**SIZES, **dict.fromkeys(LARGE, batch), "anchor": 256, "dim": dim}


def _kernel(name: str) -> str:
    return name.split(",")[0]


def checked(name: str, sizes: dict[str, int]) -> dict:
    """How far value and gradient are from the CPU's at each precision; whether two runs agree."""
    row, wrong = {"B": sizes["batch"]}, []
    for label, precision in PRECISIONS.items():
        tolerance = max(precision.tolerance, SOLVED_TOLERANCE * (_kernel(name) in SOLVED))
        arrays = _rounded(name, sizes, precision)
        found = evaluated(name, arrays, precision.products)
        apart = difference(found, reference(name, arrays), name in DECIDES, tolerance)
        row[label] = apart
        if not apart <= (OTHERWISE if name in DECIDES else tolerance):
            wrong.append(label)
        if label == "tf32":
            row["bitwise"] = _bits(found) == _bits(evaluated(name, arrays, precision.products))
    return row | ({"status": "failed", "note": f"too far: {', '.join(wrong)}"} if wrong else {})


def _rounded(name: str, sizes: dict[str, int], precision: Precision) -> dict[str, np.ndarray]:
    arrays = CALLS[name].arrays(sizes)
    return {
        k: v.astype(precision.inputs) if k in CALLS[name].floats else v for k, v in arrays.items()
    }


def reference(name: str, arrays: dict[str, np.ndarray]) -> tuple:
    """The same on the CPU in float64, of inputs as they were rounded."""
    draws = "key" in CALLS[name].options or name == "noisy_top_k_gates"
    width = np.float32 if draws else np.float64
    arrays = {k: v.astype(width) if k in CALLS[name].floats else v for k, v in arrays.items()}
    with jax.default_device(jax.local_devices(backend="cpu")[0]), _float64(not draws):
        return evaluated(name, arrays, "highest")


@contextlib.contextmanager
def _float64(wanted: bool) -> Iterator[None]:
    with jax.enable_x64(wanted):
        yield


def evaluated(name: str, arrays: dict[str, np.ndarray], products: str) -> tuple:
    """(outputs, gradients by every float argument), on the host."""
    values = {k: v for k, v in arrays.items() if k in CALLS[name].floats}
    fixed = {k: v for k, v in arrays.items() if k not in CALLS[name].floats}
    with jax.default_matmul_precision(products):
        return jax.tree.map(np.asarray, _value_and_gradient(name, values, fixed))


@partial(jax.jit, static_argnums=0)
def _value_and_gradient(name: str, values: dict, fixed: dict) -> tuple:
    example, kernel = CALLS[name], getattr(losses, _kernel(name))
    large = any(leaf.ndim and leaf.shape[0] > BLOCK for leaf in jax.tree.leaves(values))
    blocks = {"block_size": BLOCK} if large and "block_size" in example.options else {}

    def outputs(values):
        return example.run(kernel, {**values, **fixed}, **blocks)

    if not values or not floats(jax.eval_shape(outputs, values)):
        return outputs(values), {}
    return outputs(values), jax.grad(lambda v: total(outputs(v)))(values)


def difference(found: tuple, wanted: tuple, decides: bool, tolerance: float) -> float:
    """The largest of any entry, relative to the largest of its array; ∞ where one is not finite.

    Of a kernel that chooses, the share of entries that are further apart than the tolerance.
    """
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
    pairs = [tuple(np.asarray(x, np.float64) for x in pair) for pair in pairs]
    largest = max((_largest(b) for _, b in pairs), default=0.0)
    apart = [np.zeros(1)]
    for a, b in pairs:
        finite = np.isfinite(b)
        scale = max(_largest(b), 1e-3 * largest, 1e-30)  # what cancels to 0 is no measure
        same = np.where(finite, np.isfinite(a), (a == b) | (np.isnan(a) & np.isnan(b)))
        both = finite & np.isfinite(a)
        off = np.abs(np.where(both, a, 0) - np.where(both, b, 0)) / scale
        apart.append(np.where(same, off, np.inf).ravel())
    if decides:
        return max(float(np.mean(off > tolerance)) for off in apart if off.size)
    return max(float(off.max()) for off in apart if off.size)


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _bits(tree: tuple) -> bytes:
    return b"".join(leaf.tobytes() for leaf in jax.tree.leaves(tree))


# --- over all devices ----------------------------------------------------------------------------


def devices(rows: Rows, options: Options) -> None:
    batch = 64 if options.tiny else BATCH
    for parallel in ("pmap", "shard_map"):
        for name in ("info_nce", "symmetric_info_nce"):
            case = partial(over_devices, getattr(losses, name), parallel, batch)
            rows.case(f"{name} over devices, {parallel}", case)


def over_devices(loss, parallel: str, batch: int) -> dict:
    """Values and gradients with the batch split over all devices, and on one of them."""
    count = jax.local_device_count()
    if count == 1:
        raise Skipped("one device")
    x, y = np.random.default_rng(0).normal(size=(2, batch, 32)).astype(np.float32)
    sums = lambda axis_name: jax.grad(
        lambda x, y: loss(x, y, temperature=0.5, axis_name=axis_name).sum(), (0, 1)
    )
    with jax.default_matmul_precision("highest"):
        wanted = jax.jit(sums(None))(x, y)
        if parallel == "pmap":
            shares = [a.reshape(count, batch // count, -1) for a in (x, y)]
            found = jax.pmap(sums("device"), axis_name="device")(*shares)
        else:
            mesh = jax.make_mesh((count,), ("device",))
            split = jax.sharding.PartitionSpec("device")
            mapped = jax.shard_map(
                sums("device"), mesh=mesh, in_specs=split, out_specs=split, check_vma=False
            )
            found = jax.jit(mapped)(x, y)
    found = tuple(np.asarray(a).reshape(b.shape) for a, b in zip(found, wanted, strict=True))
    apart = difference(found, wanted, False, 0.0)
    status = "ok" if apart <= PRECISIONS["float32"].tolerance else "failed"
    return {"B": batch, "devices": count, "float32": apart, "status": status}
