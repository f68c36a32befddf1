"""Ten steps, and five steps, a file and five more steps: bit by bit the same."""

import dataclasses
import runpy
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
from accelerator_rows import Options, Rows

STEPS, HALF, BATCH = 10, 5, 16
CONFIGS = ("oscmg", "cmg", "retrieval", "connect", "oom", "mmosr")  # the six of configs/ that train
SHAPES = {"audio": (10, 128), "video": (10, 7, 7, 512), "text": (10, 768)}
SMALL_SHAPES = {"audio": (4, 6), "video": (4, 2, 2, 8), "text": (4, 5)}


def resumed(rows: Rows, options: Options) -> None:
    shapes = SMALL_SHAPES if options.tiny else SHAPES
    for name in ("MICU", "MOVER", "CMCR"):
        rows.case(f"{name}, ten steps resumed", partial(resumed_method, name, shapes))
    for name in CONFIGS:
        rows.case(f"configs/{name}.py, ten steps resumed", partial(resumed_config, name))


def resumed_method(name: str, shapes: dict) -> dict:
    """Needs no configuration, and keeps the state in a file of NumPy's."""
    from unirep_jax import methods

    if name == "CMCR":
        shapes = dict.fromkeys(("text_1", "image_1", "text_2", "audio_2"), (shapes["text"][-1],))
    method = getattr(methods, name)()
    if name == "MICU":
        method = dataclasses.replace(method, pieces=2, permutations=2)
    initial, engine = _engine(method.for_data(shapes, classes=0), shapes)

    def steps(placed, numbers):
        for number in numbers:
            placed, _ = engine.step(placed, engine.place_batch(_batch(shapes, number)))
            jax.block_until_ready(placed)  # several CPU devices wait for every step
        return engine.fetch_state(placed)

    unbroken = steps(engine.place_state(initial), range(STEPS))
    half = steps(engine.place_state(initial), range(HALF))
    continued = steps(engine.place_state(_through_a_file(half)), range(HALF, STEPS))
    return _verdict(unbroken, continued)


def _engine(method, shapes: dict):
    from unirep_jax.train.optimizer import make_optimizer
    from unirep_jax.train.parallel import AXIS, make_engine
    from unirep_jax.train.step import init_state, train_step

    optimizer = make_optimizer(
        lr=1e-3, steps=STEPS, schedule="cosine", warmup=2, weight_decay=0.01, clip=1.0
    )
    statistics = {
        m: (np.zeros(s[-1], np.float32), np.ones(s[-1], np.float32)) for m, s in shapes.items()
    }
    initial = init_state(method, optimizer, seed=0, shapes=shapes, statistics=statistics)
    step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
    return initial, make_engine(step)


def _batch(shapes: dict, number: int) -> dict:
    rng = np.random.default_rng(number)
    return {
        "features": {m: rng.normal(size=(BATCH, *s)).astype(np.float32) for m, s in shapes.items()},
        "present": {m: np.ones(BATCH, bool) for m in shapes},
    }


def _through_a_file(state):
    leaves, tree = jax.tree.flatten(state)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.npz"
        np.savez(file, *leaves)
        with np.load(file) as saved:
            return jax.tree.unflatten(tree, [saved[f"arr_{i}"] for i in range(len(leaves))])


def resumed_config(name: str) -> dict:
    """The default configuration, with its own checkpoints."""
    from unirep_jax.pretrain import untrained
    from unirep_jax.ready import load_settled, set_up
    from unirep_jax.train.fit import fit

    file = Path(__file__).parents[1] / "configs" / f"{name}.py"
    config = runpy.run_path(str(file))["get_config"]()
    config.steps, config.batch_size = STEPS, BATCH
    config.train.log_every = config.train.checkpoint_every = HALF
    config.train.fused = 1
    data, config, _ = load_settled(config)
    half = config.copy_and_resolve_references()
    half.steps = HALF
    with tempfile.TemporaryDirectory() as folder:
        fitting = set_up(config, Path(folder), untrained, data).fitting
        unbroken = fit(fitting, config, Path(folder) / "unbroken")
        fit(fitting, half, Path(folder) / "resumed")
        continued = fit(fitting, config, Path(folder) / "resumed")
    return _verdict(unbroken, continued)


def _verdict(unbroken, continued) -> dict:
    pairs = zip(jax.tree.leaves(unbroken), jax.tree.leaves(continued), strict=True)
    apart = sum(np.asarray(a).tobytes() != np.asarray(b).tobytes() for a, b in pairs)
    if apart:
        return {"status": "failed", "note": f"{apart} arrays of the state differ"}
    return {"bitwise": True, "steps": STEPS}
