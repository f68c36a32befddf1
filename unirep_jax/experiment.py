"""One experiment from its configuration: data, training, evaluation, and what the workdir gets."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
from ml_collections import ConfigDict

from unirep_jax.data import FeatureFileError, FeatureSet
from unirep_jax.data.catalog import DATA_SETS, load_data
from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.figures import training_curves
from unirep_jax.evaluation.kept import KeptMeasurements
from unirep_jax.evaluation.measurements import (
    ResultsError,
    read_measurements,
    write_measurements,
)
from unirep_jax.identity import evaluation_settings, identity
from unirep_jax.methods import METHODS
from unirep_jax.methods.method import Pretrain
from unirep_jax.model_files import FOLDER, ModelFileError, save_model
from unirep_jax.pretrain import pretrain
from unirep_jax.remarks import remarks
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.results import printed_results, results_page
from unirep_jax.tasks.task import Prepared, Task, Trained
from unirep_jax.terminal import say
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.train.fit import Fitting, fit, prepare
from unirep_jax.train.lock import owned
from unirep_jax.train.logs import NonFiniteError
from unirep_jax.train.processes import is_first, own_folder, wait_for_all
from unirep_jax.train.settings import check_training
from unirep_jax.workdir import (
    ConfigError,
    default_workdir,
    is_finished,
    seal,
    set_other_results_aside,
    verify_config,
    write_config,
)

# What a command line answers with one line: the user's files, settings or machine are at fault.
FAILURES = (
    FeatureFileError,
    NonFiniteError,
    ConfigError,
    CheckpointError,
    ResultsError,
    ModelFileError,
    OSError,
)


def run(config: ConfigDict, workdir: Path | None = None, *, reevaluate: bool = False) -> Path:
    """Trains (or continues) and judges one method; everything it makes is in the returned folder.

    Several processes call it together, with a workdir that all of them see.

    Args:
      config: as the files in configs/ make it.
      workdir: by default runs/ and a name made of the configuration, so that the same command
        finds its own unfinished run.
      reevaluate: evaluate a finished run again.

    Raises:
      ConfigError: a setting is not possible, or the workdir belongs to another configuration.
      FeatureFileError: the data set is not what it should be.
      FolderInUseError: another process works in the folder.
      NonFiniteError, CheckpointError, Interrupted: from training; the run can be continued.
    """
    evaluation = evaluation_sections(config)
    workdir = workdir or default_workdir(config, evaluation)
    with owned(workdir):
        verify_config(workdir, config, evaluation)
        return _run(config, workdir, evaluation, reevaluate)


def evaluation_sections(config: ConfigDict) -> tuple[str, ...]:
    """Dotted settings that training does not depend on."""
    task = TASKS.get(config.experiment)
    return tuple(f"task.{name}" for name in task.evaluation_settings) if task else ()


def _run(config: ConfigDict, workdir: Path, evaluation: tuple[str, ...], reevaluate: bool) -> Path:
    started = time.monotonic()
    data = _as_config_error(_load, config)
    trained_from = identity(config, data, evaluation)
    facts = {
        "training": trained_from.facts(), "evaluation": evaluation_settings(config, evaluation)
    }  # fmt: skip
    results = workdir / "results.jsonl"
    finished = is_finished(workdir, facts)
    if finished and not reevaluate:
        say(f"{workdir} is finished; --reevaluate evaluates it again\n")
        found = read_measurements(results)
        say(printed_results(TASKS[config.experiment], found, [config.method.name]))
        return workdir

    ready = set_up(config, workdir, data=data)
    wait_for_all("set up")  # before the folder becomes that of a run in progress
    if is_first():
        if not finished:
            set_other_results_aside(workdir, facts)
        write_config(workdir, config, evaluation)
    _announce(ready.prepared.seen, ready.fitting)
    for line in remarks(ready.fitting.method, ready.prepared.seen):
        say(f"note: {line}")

    state = fit(ready.fitting, config, workdir, trained_from)
    say(f"trained after {time.monotonic() - started:.0f} s; evaluating")
    folder = own_folder(workdir)
    kept = KeptMeasurements(folder / "measured.json", facts)
    trained = Trained(
        ready.prepared, config.method.name, config.seed, state, ready.fitting, ready.pretrain,
        folder, kept,
    )  # fmt: skip
    save_model(trained.model, folder / FOLDER)
    trained.figures.mkdir(exist_ok=True)
    if config.steps:
        training_curves(trained.figures / "training_curves.png", workdir / "metrics.jsonl")
    try:
        measurements = ready.task.evaluate(trained)
    except FAILURES:
        raise
    except ValueError as error:  # of the data or the settings: checks of ours and of libraries
        remedy = "the training is kept: change the setting and run the same command again"
        raise ConfigError(f"{workdir}: evaluation: {error}; {remedy}") from error
    if not measurements:
        raise ConfigError(f"{workdir}: with these settings nothing of these data was measured")
    task, methods = type(ready.task), [config.method.name]
    page = results_page(task, measurements, methods)
    replace_file(folder / "results.md", lambda stream: stream.write(page.encode()))
    write_measurements(folder / results.name, measurements)
    seal(folder, facts)  # last: it says that the run is finished
    kept.remove()
    wait_for_all("evaluated")
    say(f"\n{printed_results(task, measurements, methods)}")
    say(f"wrote {workdir}/ in {time.monotonic() - started:.0f} s; results.md has every number")
    return workdir


class Ready(NamedTuple):
    """Everything before the first step: task, data, method on them, what pretrains encoders."""

    task: Task
    prepared: Prepared
    fitting: Fitting
    pretrain: Pretrain


def set_up(
    config: ConfigDict,
    workdir: Path,
    pretrain: Pretrain = pretrain,
    data: FeatureSet | None = None,
) -> Ready:
    """Checks everything that can be checked before the first step, and makes it ready.

    Args:
      pretrain: trains frozen encoders where the method or the task starts from some.
      data: the feature set, where it is loaded already.

    Raises:
      ConfigError, FeatureFileError: as `run`.
    """
    return _as_config_error(_set_up, config, workdir, pretrain, data)


def _as_config_error(function: Callable, *arguments: Any) -> Any:
    """What the function returns; what it refuses, as an error of the configuration."""
    try:
        return function(*arguments)
    except (FeatureFileError, CheckpointError):
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def _load(config: ConfigDict) -> FeatureSet:
    """The feature set; refuses what does not exist first, as a ValueError."""
    for key, value, known in (
        ("experiment", config.experiment, TASKS),
        ("data.name", config.data.name, DATA_SETS),
        ("method.name", config.method.name, METHODS),
    ):
        if value not in known:
            raise ValueError(f"{key}={value!r} is none of {', '.join(known)}")
    return load_data(**config.data)


def _set_up(
    config: ConfigDict, workdir: Path, pretrain: Pretrain, data: FeatureSet | None
) -> Ready:
    """Whatever cannot be is refused here, as a ValueError."""
    check_training(config, config.seed)  # before anything is pretrained
    whole = _load(config) if data is None else data
    task = TASKS[config.experiment](**config.task.to_dict())
    settings = config.method.to_dict()
    name = settings.pop("name")
    method = METHODS[name](**settings)
    if reason := task.refusal(method, name):
        raise ValueError(f"experiment={config.experiment!r}: {reason}")
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
