"""One experiment from its configuration: data, training, evaluation, and what the workdir gets."""

import time
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax
from ml_collections import ConfigDict

from unirep_jax.data import FeatureFileError
from unirep_jax.data.catalog import DATA_SETS, load_data
from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.figures import training_curves
from unirep_jax.evaluation.measurements import ResultsError, write_measurements
from unirep_jax.methods import METHODS
from unirep_jax.methods.method import Pretrain
from unirep_jax.model_files import FOLDER, ModelFileError, save_model
from unirep_jax.pretrain import pretrain
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.task import Prepared, Task, Trained
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.train.fit import Fitting, fit, prepare
from unirep_jax.train.logs import NonFiniteError
from unirep_jax.train.processes import is_first, own_folder, wait_for_all
from unirep_jax.workdir import ConfigError, check_claim, claim, default_workdir

# What a command line answers with one line: the user's files, settings or machine are at fault.
FAILURES = (
    FeatureFileError, NonFiniteError, ConfigError, CheckpointError, ResultsError, ModelFileError,
    OSError,
)  # fmt: skip


def run(config: ConfigDict, workdir: Path | None = None, *, reevaluate: bool = False) -> Path:
    """Trains (or continues) and evaluates one method; all it makes is in the returned folder.

    Several processes call it together, with a workdir that all of them see.

    Args:
      config: as the files in configs/ make it.
      workdir: by default runs/ and a name made of the configuration, so that the same command
        finds its own unfinished run.
      reevaluate: evaluate a finished run again.

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
        print(f"{workdir} is finished; --reevaluate evaluates it again\n")
        print((workdir / "results.md").read_text())
        return workdir

    check_claim(workdir, config)
    ready = set_up(config, workdir)
    wait_for_all("set up")  # before the folder becomes that of a run in progress
    if is_first():
        claim(workdir, config)
    _announce(ready.prepared.seen, ready.fitting)

    state = fit(ready.fitting, config, workdir)
    print(f"trained after {time.monotonic() - started:.0f} s; evaluating", flush=True)
    folder = own_folder(workdir)
    trained = Trained(
        ready.prepared,
        config.method.name,
        config.seed,
        state,
        ready.fitting,
        ready.pretrain,
        folder,
    )
    save_model(trained.model, folder / FOLDER)
    trained.figures.mkdir(exist_ok=True)
    if config.steps:
        training_curves(trained.figures / "training_curves.png", workdir / "metrics.jsonl")
    measurements = ready.task.evaluate(trained)
    table = ready.task.tables(measurements)
    replace_file(folder / "results.md", lambda stream: stream.write(table.encode()))
    # Last: its presence says that the run is finished.
    write_measurements(folder / results.name, measurements)
    wait_for_all("evaluated")
    print(f"\n{table}\nwrote {workdir}/ in {time.monotonic() - started:.0f} s")
    return workdir


class Ready(NamedTuple):
    """Everything before the first step: task, data, method on them, what pretrains encoders."""

    task: Task
    prepared: Prepared
    fitting: Fitting
    pretrain: Pretrain


def set_up(config: ConfigDict, workdir: Path, pretrain: Pretrain = pretrain) -> Ready:
    """Checks everything that can be checked before the first step, and makes it ready.

    Args:
      pretrain: trains frozen encoders where the method or the task starts from some.

    Raises:
      ConfigError, FeatureFileError: as `run`.
    """
    try:
        return _set_up(config, workdir, pretrain)
    except FeatureFileError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def _set_up(config: ConfigDict, workdir: Path, pretrain: Pretrain) -> Ready:
    """Whatever cannot be is refused here, as a ValueError."""
    for key, value, known in (
        ("experiment", config.experiment, TASKS),
        ("data.name", config.data.name, DATA_SETS),
        ("method.name", config.method.name, METHODS),
    ):
        if value not in known:
            raise ValueError(f"{key}={value!r} is none of {', '.join(known)}")
    task = TASKS[config.experiment](**config.task.to_dict())
    settings = config.method.to_dict()
    name = settings.pop("name")
    method = METHODS[name](**settings)
    if reason := task.refusal(method, name):
        raise ValueError(f"experiment={config.experiment!r}: {reason}")
    whole = load_data(**config.data)
    encoders: Pretrain = _no_encoders(name)
    if "pretrain" in config:
        folder = Path(config.pretrain.path or workdir / "pretrain")
        encoders = partial(pretrain, settings=config.pretrain, folder=folder)
    prepared = task.prepare(whole, method, encoders, config.seed)
    pools = task.pools(prepared.seen, config.batch_size, config.seed)
    fitting = prepare(
        method, prepared.seen, config, seed=config.seed, labels=prepared.labelled, pools=pools
    )
    return Ready(task, prepared, fitting, encoders)


def _no_encoders(name: str) -> Pretrain:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise ValueError(f"{name} starts from frozen encoders: the configuration has no `pretrain`")

    return refuse


def _announce(feature_set, fitting: Fitting) -> None:
    """The first line of a run: devices, data, parameters."""
    leaves = jax.tree.leaves(jax.eval_shape(fitting.initial).params)
    features = ", ".join(f"{m} {list(x.shape[1:])}" for m, x in feature_set.features.items())
    train_count = int(feature_set.train.sum())
    processes = jax.process_count()
    shared = f" of {processes} processes" if processes > 1 else ""
    print(
        f"{fitting.engine.devices} {jax.devices()[0].platform.upper()} device(s){shared} | "
        f"{feature_set.name}: "
        f"{train_count} train, {len(feature_set.label) - train_count} test, "
        f"{feature_set.num_classes} classes, {features} | "
        f"{sum(leaf.size for leaf in leaves) / 1e6:.2f} M parameters",
        flush=True,
    )
