"""Seconds per training step of MOVER with and without transport, by batch and modalities.

    python benchmarks/mover_step.py [--batch=32 --batch=128] [--modalities=3] [--rounds=100]

Linear towers from random features of 64 dimensions to 128. All sides take turns in this process;
a side is compiled before anything is timed, and the least and the median of its calls are printed:
on a busy machine the median is mostly of the others. `an anchor at a time` is the sum over tuples
as a loop over single anchors, whose loss is compared with that of the default first.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from unirep_jax.losses import transport_volume
from unirep_jax.methods import MOVER
from unirep_jax.train.optimizer import make_optimizer
from unirep_jax.train.parallel import AXIS, make_engine
from unirep_jax.train.step import init_state, train_step

DIM = 64  # of the features


def stepper(method: MOVER, batch: int, modalities: int) -> Callable[[], float]:
    """A call that makes one step and returns its loss, compiled."""
    rng = np.random.default_rng(0)
    shapes = {f"modality_{m}": (DIM,) for m in range(modalities)}
    arrays = {
        "features": {m: rng.standard_normal((batch, DIM), np.float32) for m in shapes},
        "present": {m: np.ones(batch, bool) for m in shapes},
    }
    still = (np.zeros(DIM, np.float32), np.ones(DIM, np.float32))
    optimizer = make_optimizer(
        lr=1e-3, steps=1000, schedule="constant", warmup=0, weight_decay=0.01, clip=1.0
    )
    state = init_state(
        method, optimizer, seed=0, shapes=shapes, statistics=dict.fromkeys(shapes, still)
    )
    step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
    engine = make_engine(step, devices=jax.devices()[:1])
    placed, rows = [engine.place_state(state)], engine.place_batch(arrays)

    def run() -> float:
        placed[0], metrics = engine.step(placed[0], rows)
        return float(metrics["loss"])

    run()
    return run


def measure(batch: int, modalities: int, rounds: int) -> dict:
    """Milliseconds of a step of each side, the least and the median of calls in turns."""
    method = MOVER(dim=128, groups="all" if modalities <= 3 else "top")
    sides = {
        "w/o OT": stepper(dataclasses.replace(method, weight_transport=0.0), batch, modalities),
        "MOVER": stepper(method, batch, modalities),
    }
    if modalities == 3:
        together, transport_volume.TOGETHER = transport_volume.TOGETHER, 1
        jax.clear_caches()
        sides["an anchor at a time"] = stepper(method, batch, modalities)
        transport_volume.TOGETHER = together
        np.testing.assert_allclose(sides["MOVER"](), sides["an anchor at a time"](), rtol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    milliseconds = {
        name: [round(1e3 * which(found), 2) for which in (min, statistics.median)]
        for name, found in seconds.items()
    }
    return {"batch": batch, "modalities": modalities, "ms": milliseconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--modalities", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    for batch in options.batch or (32, 128):
        print(json.dumps(measure(batch, options.modalities, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
