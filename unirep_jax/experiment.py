"""One experiment from its configuration: data, training, evaluation, and what the workdir gets."""

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from unirep_jax import data
from unirep_jax.data import FeatureFileError, digits_avt, utd_mhad
from unirep_jax.evaluation import cross_modal
from unirep_jax.evaluation.measurements import Measurement, write_measurements
from unirep_jax.evaluation.probe import Probe, Representation, embed_data
from unirep_jax.methods import METHODS
from unirep_jax.report.figures import codebook_usage, training_curves
from unirep_jax.report.tables import cross_modal_tables
from unirep_jax.train.loop import train
from unirep_jax.train.optimizer import make_optimizer
from unirep_jax.train.parallel import AXIS, Engine, make_engine
from unirep_jax.train.step import TrainState, init_state, train_step
from unirep_jax.workdir import ConfigError, claim, default_workdir

DATA_SETS = {
    "digits_avt": lambda path: digits_avt.load(),
    "utd_mhad": utd_mhad.load,
    "features": data.load_features,
}
CONTROL_STEPS = 100  # updates of the untrained network's codebook


def run(config: ConfigDict, workdir: Path | None = None, *, reevaluate: bool = False) -> Path:
    """Trains (or continues) and judges one method; everything it makes is in the returned folder.

    Args:
      config: as the files in configs/ make it.
      workdir: by default runs/ and a name made of the configuration, so that the same command
        finds its own unfinished run.
      reevaluate: judge a finished run again.

    Raises:
      ConfigError: a setting is not possible, or the workdir belongs to another configuration.
      FeatureFileError: the data set is not what it should be.
      NonFiniteError, Interrupted: from training; the run can be continued.
    """
    started = time.monotonic()
    workdir = workdir or default_workdir(config)
    results = workdir / "results.jsonl"
    if results.exists() and not reevaluate:
        claim(workdir, config)
        print(f"{workdir} is finished; --reevaluate judges it again\n")
        print((workdir / "results.md").read_text())
        return workdir

    try:
        feature_set, known, method, engine, initial = _set_up(config)
    except FeatureFileError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    claim(workdir, config)
    _announce(feature_set, engine, initial)

    state = train(
        engine, initial, partial(_placed_batches, config, feature_set, engine),
        workdir=workdir, steps=config.steps, batch_size=config.batch_size,
        log_every=config.train.log_every, checkpoint_every=config.train.checkpoint_every,
    )  # fmt: skip
    print(f"trained after {time.monotonic() - started:.0f} s; evaluating", flush=True)
    judge = partial(_judge, config, known, feature_set, method)
    measurements, representation = judge(state, config.method.name)
    if config.protocol.control:
        untrained = _untrained(config, feature_set, engine, initial)
        measurements += judge(untrained, "untrained")[0]
    measurements += list(_chance(measurements, known, feature_set.num_classes))

    figures = workdir / "figures"
    figures.mkdir(exist_ok=True)
    codebook_usage(figures / "codebook_usage.png", representation, feature_set)
    training_curves(figures / "training_curves.png", workdir / "metrics.jsonl")
    table = cross_modal_tables(measurements)
    (workdir / "results.md").write_text(table)
    write_measurements(results, measurements)  # last: its presence says that the run is finished
    print(f"\n{table}\nwrote {workdir}/ in {time.monotonic() - started:.0f} s")
    return workdir


def _set_up(config: ConfigDict) -> tuple:
    """Everything before the first step; whatever cannot be is refused here, as a ValueError."""
    if config.experiment not in ("oscmg", "cmg"):
        raise ValueError(f"experiment={config.experiment!r} is neither 'oscmg' nor 'cmg'")
    feature_set = DATA_SETS[config.data.name](config.data.path)
    known = _known_classes(config.protocol.known, feature_set.num_classes)
    shapes = {m: x.shape[1:] for m, x in feature_set.features.items()}
    settings = config.method.to_dict()
    method = METHODS[settings.pop("name")](**settings).for_shapes(shapes)
    names = ("lr", "schedule", "warmup", "weight_decay", "clip")
    optimizer = make_optimizer(steps=config.steps, **{k: config.train[k] for k in names})
    step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
    engine = make_engine(step, parallel=config.parallel)
    if config.batch_size % engine.devices:
        raise ValueError(
            f"batch_size={config.batch_size} does not split over {engine.devices} devices"
        )
    _batches(config, feature_set, start=0, steps=0)  # refuses an impossible batch size now
    initial = partial(
        init_state, method, optimizer, seed=config.seed, shapes=shapes,
        statistics=data.standardization(feature_set),
    )  # fmt: skip
    return feature_set, known, method, engine, initial


def _known_classes(known: tuple[int, ...], classes: int) -> tuple[int, ...]:
    """Known classes per split; zeros stand for a half, then three quarters of the classes."""
    default = (classes // 2, classes * 3 // 4)
    known = tuple(k or default[min(i, 1)] for i, k in enumerate(known))
    for count in known:
        if not 2 <= count < classes:
            raise ValueError(
                f"protocol.known={known}: {count} known classes of {classes}; "
                "at least 2 must be known and 1 unknown"
            )
    return known


def _batches(config: ConfigDict, feature_set, *, start: int, steps: int) -> Iterator[dict]:
    return data.batches(
        feature_set, batch_size=config.batch_size, seed=config.seed, start_step=start,
        num_steps=steps,
    )  # fmt: skip


def _placed_batches(config: ConfigDict, feature_set, engine: Engine, start: int) -> Iterator:
    stream = _batches(config, feature_set, start=start, steps=config.steps - start)
    return data.prefetch_to_device(stream, engine.place_batch)


def _announce(feature_set, engine: Engine, initial) -> None:
    """The first line of a run: devices, data, parameters."""
    leaves = jax.tree.leaves(jax.eval_shape(initial).params)
    features = ", ".join(f"{m} {list(x.shape[1:])}" for m, x in feature_set.features.items())
    train_count = int(feature_set.train.sum())
    print(
        f"{engine.devices} {jax.devices()[0].platform.upper()} device(s) | {feature_set.name}: "
        f"{train_count} train, {len(feature_set.label) - train_count} test, "
        f"{feature_set.num_classes} classes, {features} | "
        f"{sum(leaf.size for leaf in leaves) / 1e6:.2f} M parameters",
        flush=True,
    )


def _untrained(config: ConfigDict, feature_set, engine: Engine, initial) -> TrainState:
    """The control: random encoders, and a codebook fitted to what they put out.

    The training step itself moves the codebook; the parameters are put back after every call.
    """
    state = initial()
    steps = min(CONTROL_STEPS, config.steps)
    for batch in _batches(config, feature_set, start=0, steps=steps):
        placed, _ = engine.step(engine.place_state(state), engine.place_batch(batch))
        moved = jax.tree.map(np.asarray, engine.fetch_state(placed))
        state = state._replace(step=moved.step, state=moved.state)
    return state


def _judge(
    config: ConfigDict, known: tuple[int, ...], feature_set, method, state: TrainState, name: str
) -> tuple[list[Measurement], Representation]:
    """Every measurement of one trained (or untrained) network, and its codes."""
    representation = embed_data(method, state.params, state.state, feature_set)
    probe = Probe(**config.protocol.probe)
    common = {"method": name, "dataset": feature_set.name, "seed": config.seed}
    rows = cross_modal.closed_set(representation, feature_set, probe=probe, seed=config.seed)
    measurements = [Measurement(experiment="cmg", **common, **row) for row in rows]
    if config.experiment == "oscmg":
        rows = cross_modal.open_set(
            representation, feature_set, known=known, selections=config.protocol.selections,
            folds=config.protocol.folds, probe=probe, seed=config.seed,
        )  # fmt: skip
        measurements += [Measurement(experiment="oscmg", **common, **row) for row in rows]
    return measurements, representation


def _chance(
    measurements: list[Measurement], known: tuple[int, ...], classes: int
) -> Iterator[Measurement]:
    """For every measurement of the trained network, what guessing gives."""
    for m in measurements:
        if m.method == measurements[0].method and m.metric in cross_modal.GUESSABLE:
            count = classes if m.split == "all" else known[int(m.split.removeprefix("split")) - 1]
            yield dataclasses.replace(m, method="chance", value=cross_modal.chance(m.metric, count))
