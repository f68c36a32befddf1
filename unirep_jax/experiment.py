"""One experiment from its configuration: data, training, evaluation, and what the workdir gets."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unirep_jax import data
from unirep_jax.data import FeatureFileError
from unirep_jax.data.catalog import DATA_SETS
from unirep_jax.evaluation.measurements import write_measurements
from unirep_jax.methods import METHODS
from unirep_jax.protocols import PROTOCOLS
from unirep_jax.protocols.trained import Trained
from unirep_jax.report.figures import training_curves
from unirep_jax.train.loop import train
from unirep_jax.train.optimizer import make_optimizer
from unirep_jax.train.parallel import AXIS, Engine, make_engine
from unirep_jax.train.step import init_state, train_step
from unirep_jax.workdir import ConfigError, claim, default_workdir


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
        protocol, whole, training_set, method, engine, initial = _set_up(config)
    except FeatureFileError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    claim(workdir, config)
    _announce(training_set, engine, initial)

    batches = partial(_batches, config, training_set, labels=protocol.supervised)
    state = train(
        engine, initial, lambda start: _placed(batches(start, config.steps - start), engine),
        workdir=workdir, steps=config.steps, batch_size=config.batch_size,
        log_every=config.train.log_every, checkpoint_every=config.train.checkpoint_every,
    )  # fmt: skip
    print(f"trained after {time.monotonic() - started:.0f} s; evaluating", flush=True)
    figures = workdir / "figures"
    figures.mkdir(exist_ok=True)
    training_curves(figures / "training_curves.png", workdir / "metrics.jsonl")
    trained = Trained(
        whole, method, config.method.name, config.seed, state, initial, batches, engine, figures
    )
    measurements = protocol.judge(trained)
    table = protocol.tables(measurements)
    (workdir / "results.md").write_text(table)
    write_measurements(results, measurements)  # last: its presence says that the run is finished
    print(f"\n{table}\nwrote {workdir}/ in {time.monotonic() - started:.0f} s")
    return workdir


def _set_up(config: ConfigDict) -> tuple:
    """Everything before the first step; whatever cannot be is refused here, as a ValueError."""
    for key, value, known in (
        ("experiment", config.experiment, PROTOCOLS),
        ("data.name", config.data.name, DATA_SETS),
        ("method.name", config.method.name, METHODS),
    ):
        if value not in known:
            raise ValueError(f"{key}={value!r} is none of {', '.join(known)}")
    protocol = PROTOCOLS[config.experiment](**config.protocol.to_dict())
    whole = DATA_SETS[config.data.name](config.data.path)
    training_set = protocol.training_set(whole, config.seed)
    shapes = {m: x.shape[1:] for m, x in training_set.features.items()}
    settings = config.method.to_dict()
    method = METHODS[settings.pop("name")](**settings)
    method = method.for_data(shapes, training_set.num_classes)
    names = ("lr", "schedule", "warmup", "weight_decay", "clip")
    optimizer = make_optimizer(steps=config.steps, **{k: config.train[k] for k in names})
    step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
    engine = make_engine(step, parallel=config.parallel)
    if config.batch_size % engine.devices:
        raise ValueError(
            f"batch_size={config.batch_size} does not split over {engine.devices} devices"
        )
    _batches(config, training_set, 0, 0)  # refuses an impossible batch size now
    initial = partial(
        init_state, method, optimizer, seed=config.seed, shapes=shapes,
        statistics=data.standardization(training_set),
    )  # fmt: skip
    return protocol, whole, training_set, method, engine, initial


def _batches(
    config: ConfigDict, feature_set, start: int, steps: int, *, labels: bool = False
) -> Iterator[dict]:
    return data.batches(
        feature_set, batch_size=config.batch_size, seed=config.seed, start_step=start,
        num_steps=steps, labels=labels,
    )  # fmt: skip


def _placed(batches: Iterator[dict], engine: Engine) -> Iterator:
    return data.prefetch_to_device(batches, engine.place_batch)


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
