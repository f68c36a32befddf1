"""What a configuration would do: shapes, parameters, arithmetic, memory and time of a step."""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unirep_jax.evaluation.tables import markdown_table
from unirep_jax.identity import flat
from unirep_jax.pretrain import untrained
from unirep_jax.ready import load_settled, set_up
from unirep_jax.train.fit import Fitting

TIMED_CALLS = 3


def dry_run(config: ConfigDict, importing: float = 0.0) -> str:
    """A report of the run that `config` describes, after a few steps that leave nothing behind.

    Frozen encoders are not trained: they are taken as they are drawn.

    Args:
      importing: seconds that the program took before this call, for the table of times.

    Raises:
      ConfigError, FeatureFileError: as `set_up`.
    """
    start = time.perf_counter()
    data, config, _ = load_settled(config)
    with tempfile.TemporaryDirectory() as folder:
        ready = set_up(config, Path(folder), untrained, data)
        before = {"importing": importing, "data and set-up": time.perf_counter() - start}
        training_set, fitting = ready.prepared.seen, ready.fitting
        settings = "\n".join(f"{key} = {value!r}" for key, value in flat(config.to_dict()).items())
        features = markdown_table(
            ["modality", "dtype", "shape", "present"],
            [
                [m, str(x.dtype), str(list(x.shape)), f"{training_set.present[m].mean():.0%}"]
                for m, x in training_set.features.items()
            ],
        )
        return "\n".join(
            [
                "## Configuration\n",
                settings,
                "\n## Data\n",
                features,
                f"{training_set.train.sum()} of {len(training_set.label)} examples are trained on.",
                "\n## Parameters\n",
                _parameters(fitting),
                "\n## Step\n",
                _step(fitting, config, before),
            ]
        )


def _parameters(fitting: Fitting) -> str:
    """A line per module: its place in the tree, number of arrays and of parameters."""
    params = jax.eval_shape(fitting.initial).params
    sizes: dict[str, list[int]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [str(getattr(entry, "key", entry)) for entry in path]
        sizes.setdefault("/".join(names[:2]), []).append(leaf.size)
    total = sum(map(sum, sizes.values()))
    rows = [[name, str(len(each)), f"{sum(each):,}"] for name, each in sizes.items()]
    return markdown_table(["module", "arrays", "parameters"], [*rows, ["all", "", f"{total:,}"]])


class StepCost(NamedTuple):
    """Of one training step on one device, as XLA counts it, and as a clock does.

    initial, compiling: seconds until the state before step 0 is there, and of the compilation;
    batch: seconds to make the batch of a step, which happens beside the step before; seconds: of a
    step, the median of `calls`; flops: operations; traffic, arguments, besides: bytes moved, and
    held; loss: the last one.
    """

    initial: float
    compiling: float
    batch: float
    seconds: float
    calls: int
    flops: float
    traffic: float
    arguments: int
    besides: int
    loss: float


def measure_step(fitting: Fitting, steps: int) -> StepCost:
    """The cost of a step of a training of so many steps, of which a few are made and forgotten."""
    engine, fused = fitting.engine, fitting.steps_per_call
    start = time.perf_counter()
    state = jax.block_until_ready(engine.place_state(fitting.initial()))
    initial = time.perf_counter() - start
    start = time.perf_counter()
    host = list(fitting.batches(0, min((TIMED_CALLS + 1) * fused, steps)))
    making = (time.perf_counter() - start) / (len(host) * fused)
    batches = [engine.place_batch(batch) for batch in host]
    start = time.perf_counter()
    compiled, step = engine.compiled(state, batches[0])
    compiling = time.perf_counter() - start
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch))
        seconds.append((time.perf_counter() - start) / fused)
    seconds = seconds[1:] or seconds  # the first call also loads
    cost, memory = _cost(compiled), compiled.memory_analysis()
    return StepCost(
        initial,
        compiling,
        making,
        float(np.median(seconds)),
        len(seconds),
        cost["flops"] / fused,
        cost["bytes accessed"] / fused,
        memory.argument_size_in_bytes,  # type: ignore[union-attr]
        memory.temp_size_in_bytes,  # type: ignore[union-attr]
        float(metrics["loss"]),
    )


def _step(fitting: Fitting, config: ConfigDict, before: dict[str, float]) -> str:
    """What a step costs, and where the time until the evaluation goes."""
    if not config.steps:
        return "Nothing is trained."
    cost, engine, steps = measure_step(fitting, config.steps), fitting.engine, config.steps
    mebi = lambda size: f"{size / 2**20:.1f} MiB"
    lines = {
        "devices": f"{engine.devices} × {jax.devices()[0].device_kind}",
        "compilation": f"{cost.compiling:.1f} s",
        "arithmetic": f"{cost.flops / 1e9:.3f} GFLOP a device and step (XLA's count)",
        "memory traffic": f"{cost.traffic / 1e9:.3f} GB a device and step",
        "memory": f"{mebi(cost.arguments)} of state, batch and resident data, "
        f"{mebi(cost.besides)} besides, a device",
        "time": f"{1e3 * cost.seconds:.2f} ms, median of {cost.calls} calls of "
        f"{fitting.steps_per_call} steps",
        "whole run": f"{steps} steps, about {steps * cost.seconds:.0f} s, before evaluation",
        "first loss": f"{cost.loss:.4f}",
    }
    parts = before | {
        "state before step 0": cost.initial,
        "compilation": cost.compiling,
        "steps": steps * cost.seconds,
        "batches beyond the steps": steps * max(cost.batch - cost.seconds, 0.0),
    }
    whole = sum(parts.values())
    rows = [[part, f"{seconds:.1f}", f"{seconds / whole:.0%}"] for part, seconds in parts.items()]
    return "\n".join(
        [
            markdown_table(["what", "value"], [[k, v] for k, v in lines.items()]),
            "\n## Time before the evaluation\n",
            markdown_table(["part", "s", "share"], rows),
            f"A batch takes {1e3 * cost.batch:.2f} ms, made while the step before it runs. What an "
            "evaluation takes, a run says at its end.",
        ]
    )


def _cost(compiled: jax.stages.Compiled) -> dict[str, float]:
    """XLA's operations and bytes, 0 where a backend does not count them."""
    cost = compiled.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost  # before JAX 0.8
    return {name: max(float(cost.get(name, 0.0)), 0.0) for name in ("flops", "bytes accessed")}
