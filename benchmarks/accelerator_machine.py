"""What the device is, and the rates that it reaches: operations and bytes a second."""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import jax
import jax.numpy as jnp
import ours
from accelerator_rows import Options, Rows, read
from peers import Run

PACKAGES = ("unirep_jax", "jax", "jaxlib", "flax", "optax", "torch", "ott-jax", "beartype")
RATES = {"highest": jnp.float32, "default": jnp.float32, "bf16": jnp.bfloat16}


def machine(rows: Rows, options: Options) -> None:
    rows.case("device and versions", _device)
    for precision in RATES:
        rows.case(f"product, {precision}", partial(_product_rate, precision, options.tiny))
    rows.case("copy", partial(_copy_rate, options.tiny))


def _device() -> dict:
    def installed(package):
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    device = jax.devices()[0]
    versions = {package: installed(package) for package in PACKAGES}
    return {"note": f"{jax.device_count()} x {device.device_kind}; {json.dumps(versions)}"}


def _product_rate(precision: str, tiny: bool) -> dict:
    """Operations a second of a large square product."""
    size = 256 if tiny else 8192
    square = jnp.ones((size, size), RATES[precision])
    product = partial(jnp.dot, precision=None if precision == "bf16" else precision)
    took = median_seconds(ours.compiled(product, square, square))
    return {"rate": 2 * size**3 / took, "B": size}


def _copy_rate(tiny: bool) -> dict:
    """Bytes a second, read and written."""
    array = jnp.ones(2**20 if tiny else 2**28)
    took = median_seconds(ours.compiled(lambda x: x + 1, array))
    return {"rate": 2 * array.nbytes / took, "B": array.size}


def rates(options: Options) -> dict[str, float]:
    """What the stage `machine` measured."""
    found = [row for row in read(options.out) if row["stage"] == "machine" and "rate" in row]
    return {row["case"].removeprefix("product, "): row["rate"] for row in found}


def median_seconds(run: Run, wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of a call, of as many as fit into a second, at least 3 and at most 30."""
    seconds, end = [], time.perf_counter() + 1
    while len(seconds) < 3 or (time.perf_counter() < end and len(seconds) < 30):
        wait()
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
