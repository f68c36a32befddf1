"""Seconds per training step of MICU at the paper's shapes, on random features.

    python benchmarks/micu_step.py [--steps=5] [--pieces=2 --permutations=2] [--preset=paper]

Batch 80, ten steps of time: audio [10, 128], video [10, 7, 7, 512], text [10, 768]. Prints compile
time, the fastest and the median step, and the peak memory of the process. Without --pieces both of
the paper's extremes run, each in a process of its own so that each has its own peak memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

SHAPES = {"audio": (10, 128), "video": (10, 7, 7, 512), "text": (10, 768)}
BATCH = 80


def prepared(preset: str, pieces: int, permutations: int, shapes: dict = SHAPES):
    """(engine, placed state, placed batch) of MICU on random features."""
    import dataclasses
    from functools import partial

    import jax
    import numpy as np

    from unirep_jax.methods import MICU
    from unirep_jax.train.optimizer import make_optimizer
    from unirep_jax.train.parallel import AXIS, make_engine
    from unirep_jax.train.step import init_state, train_step

    rng = np.random.default_rng(0)
    batch = {
        "features": {
            m: rng.standard_normal((BATCH, *s), dtype=np.float32) for m, s in shapes.items()
        },
        "present": {m: np.ones(BATCH, bool) for m in shapes},
    }
    statistics = {
        m: (np.zeros(s[-1], np.float32), np.ones(s[-1], np.float32)) for m, s in shapes.items()
    }
    method = dataclasses.replace(
        getattr(MICU, preset)(), pieces=pieces, permutations=permutations
    ).for_data(shapes, classes=0)
    optimizer = make_optimizer(
        lr=4e-4, steps=1000, schedule="constant", warmup=0, weight_decay=0.0, clip=0.5
    )
    state = init_state(method, optimizer, seed=0, shapes=shapes, statistics=statistics)
    step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
    engine = make_engine(step, devices=jax.devices()[:1])
    return engine, engine.place_state(state), engine.place_batch(batch)


def measure(preset: str, pieces: int, permutations: int, steps: int) -> dict:
    import statistics

    import jax

    engine, state, batch = prepared(preset, pieces, permutations)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        state, metrics = engine.step(state, batch)
        loss = float(jax.block_until_ready(metrics)["loss"])
        seconds.append(time.perf_counter() - start)
    return {
        "preset": preset,
        "pieces": pieces,
        "permutations": permutations,
        "device": jax.devices()[0].device_kind,
        "first_step_s": round(seconds[0], 2),
        "min_s": round(min(seconds[1:]), 3),
        "median_s": round(statistics.median(seconds[1:]), 3),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "parameters_million": round(
            sum(x.size for x in jax.tree.leaves(engine.fetch_state(state).params)) / 1e6, 2
        ),
        "loss": round(loss, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="paper", choices=["paper", "official"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--pieces", type=int)
    parser.add_argument("--permutations", type=int, default=2)
    options = parser.parse_args()
    if options.pieces:
        measured = measure(options.preset, options.pieces, options.permutations, options.steps)
        print(json.dumps(measured))
        return
    for pieces, permutations in ((2, 2), (8, 256)):
        subprocess.run(
            [
                sys.executable,
                __file__,
                f"--preset={options.preset}",
                f"--steps={options.steps}",
                f"--pieces={pieces}",
                f"--permutations={permutations}",
            ],
            check=True,
        )


if __name__ == "__main__":
    main()
