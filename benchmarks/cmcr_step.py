"""Seconds per training step of C-MCR at the paper's shapes, against the same step in PyTorch.

    python benchmarks/cmcr_step.py [--batch=10240] [--steps=3]

Four streams of 512 dimensions, the projectors of Table 6, AdamW. Both sides start from the same
weights, and their losses without noise are compared before anything is timed; then they take turns
in this process, on as many threads. Peak memory is above that of the inputs and the compiled
program, of each side alone in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial

import kernels
import numpy as np
import peers

DIM, ROWS = 512, 20480  # of each stream, from which a batch is gathered
STREAMS = ("text_1", "image_1", "text_2", "audio_2")


def embeddings() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {m: rng.standard_normal((ROWS, DIM), dtype=np.float32) for m in STREAMS}
    return {m: x / np.linalg.norm(x, axis=1, keepdims=True) for m, x in made.items()}


def initial_params() -> dict:
    import jax

    from unirep_jax.methods import CMCR

    params, _ = CMCR().init(jax.random.key(0), dict.fromkeys(STREAMS, (DIM,)), {})
    return jax.tree.map(np.asarray, params)


def ours(batch: int, noise: float, *, fused: int = 1, block_size: int = 1024):
    """A call that makes `fused` steps in one program and returns their mean loss."""
    import jax

    from unirep_jax.data.resident import Pool
    from unirep_jax.methods import CMCR
    from unirep_jax.train.optimizer import make_optimizer
    from unirep_jax.train.parallel import AXIS, make_engine
    from unirep_jax.train.step import fused_step, init_state, train_step

    method = CMCR(noise_variance=noise, block_size=block_size)
    shapes = dict.fromkeys(STREAMS, (DIM,))
    optimizer = make_optimizer(
        lr=1e-3, steps=1000, schedule="constant", warmup=0, weight_decay=0.01, clip=0.0
    )
    pool = Pool(np.arange(ROWS), batch, STREAMS)
    resident = {
        "features": embeddings(),
        "present": {m: np.ones(ROWS, bool) for m in STREAMS},
        "label": np.zeros(ROWS, np.int32),
    }
    step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
    engine = make_engine(
        partial(fused_step, step=step, pools=pool), devices=jax.devices()[:1], resident=resident
    )
    state = init_state(method, optimizer, seed=0, shapes=shapes, statistics={})
    placed = [engine.place_state(state._replace(params=initial_params()))]
    numbers = np.arange(batch, dtype=np.int32)[:, None]
    rows = engine.place_batch(np.repeat(numbers, fused, axis=1))

    def run():
        placed[0], metrics = engine.step(placed[0], rows)
        return float(metrics["loss"])

    return run


def theirs(batch: int, noise: float):
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy, normalize

    def projector(params):
        layers = []
        for place in range(2):
            kernel = params[f"Dense_{place}"]["kernel"]
            linear = nn.Linear(*kernel.shape)
            linear.weight.data = torch.tensor(kernel.T)
            linear.bias.data = torch.tensor(params[f"Dense_{place}"]["bias"])
            layers += [linear, nn.BatchNorm1d(kernel.shape[1]), nn.ReLU()]
        return nn.Sequential(*layers)

    streams = {m: torch.tensor(x) for m, x in embeddings().items()}
    first, second = (projector(p) for p in initial_params().values())
    optimizer = torch.optim.AdamW(
        [*first.parameters(), *second.parameters()], lr=1e-3, weight_decay=0.01
    )
    target = torch.arange(batch)

    def info_nce(x, y):
        logits = x @ y.T / 0.01
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    def run():
        noisy = [
            normalize(x[:batch] + noise**0.5 * torch.randn(batch, DIM)) for x in streams.values()
        ]
        t1, v1 = normalize(first(torch.cat(noisy[:2]))).split(batch)
        t2, a2 = normalize(second(torch.cat(noisy[2:]))).split(batch)
        gap = (t1 - v1).norm(dim=1).mean() + (t2 - a2).norm(dim=1).mean()
        loss = info_nce(t1, t2) + info_nce(v1, a2) + 0.1 * gap / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


SIDES = {"ours": ours, "PyTorch": theirs}


def peak_memory(side: str, batch: int) -> float:
    """MB above what the side's process held before its second step."""
    command = [sys.executable, __file__, "--memory", side, f"--batch={batch}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


def print_peak_memory(side: str, batch: int) -> None:
    run = SIDES[side](batch, 0.004)
    run()  # what the first call loads is not what a call needs
    print(kernels.peak_of(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=10240)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print_peak_memory(options.memory, options.batch)
        return
    peers.same_threads()
    losses = {name: side(options.batch, 0.0)() for name, side in SIDES.items()}
    apart = abs(losses["ours"] / losses["PyTorch"] - 1)
    assert apart < 1e-4, f"the first losses differ: {losses}"
    runs, seconds, first = {}, {name: [] for name in SIDES}, {}
    for name, side in SIDES.items():
        runs[name] = side(options.batch, 0.004)
        start = time.perf_counter()
        runs[name]()
        first[name] = time.perf_counter() - start
    for _ in range(options.steps):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    del runs
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        json.dumps(
            {
                "batch": options.batch,
                "first_loss": losses["ours"],
                "losses_apart": apart,
                "first_step_s": first,
                "step_s": median,
                "ratio": median["PyTorch"] / median["ours"],
                "peak_mb": {name: peak_memory(name, options.batch) for name in SIDES},
            }
        )
    )


if __name__ == "__main__":
    main()
