"""One experiment from its configuration: data, training, evaluation, and what the workdir gets."""

import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unirep_jax.data import FeatureFileError, FeatureSet
from unirep_jax.evaluation.figures import training_curves
from unirep_jax.evaluation.kept import KeptMeasurements
from unirep_jax.evaluation.measurements import ResultsError, read_measurements
from unirep_jax.identity import evaluation_settings, identity
from unirep_jax.model_files import ModelFileError
from unirep_jax.ready import Ready, load_settled, set_up
from unirep_jax.rehearsal import rehearse
from unirep_jax.remarks import remarks
from unirep_jax.result_files import RESULTS, write_results
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.results import printed_results
from unirep_jax.terminal import say
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.train.fit import Fitting, fit
from unirep_jax.train.lock import owned
from unirep_jax.train.logs import NonFiniteError
from unirep_jax.train.processes import is_first, own_folder, wait_for_all
from unirep_jax.train.step import TrainState
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


def run(
    config: ConfigDict,
    workdir: Path | None = None,
    *,
    reevaluate: bool = False,
    trial: bool = False,
) -> Path:
    """Trains (or continues) and evaluates one method; the returned folder has all that it makes.

    Several processes call it together, with a workdir that all of them see.

    Args:
      config: as the files in configs/ make it.
      workdir: by default runs/ and a name made of the configuration, so that the same command
        finds its own unfinished run.
      reevaluate: evaluate a finished run again.
      trial: of a search for settings: its results are neither rehearsed, drawn nor printed.

    Raises:
      ConfigError: a setting is not possible, or the workdir belongs to another configuration.
      FeatureFileError: the data set is not what it should be.
      FolderInUseError: another process works in the folder.
      NonFiniteError, CheckpointError, Interrupted: from training; the run can be continued.
    """
    evaluation = evaluation_sections(config)
    workdir = workdir or default_workdir(config, evaluation)
    data, config, chosen = load_settled(config)
    if chosen:
        say(f"chosen for these data: {' '.join(f'{n}={v}' for n, v in chosen.items())}")
    with owned(workdir):
        verify_config(workdir, config, evaluation)
        return _run(config, data, workdir, evaluation, reevaluate, trial)


def evaluation_sections(config: ConfigDict) -> tuple[str, ...]:
    """Dotted settings that training does not depend on."""
    task = TASKS.get(config.experiment)
    return tuple(f"task.{name}" for name in task.evaluation_settings) if task else ()


def _run(
    config: ConfigDict,
    data: FeatureSet,
    workdir: Path,
    evaluation: tuple[str, ...],
    reevaluate: bool,
    trial: bool,
) -> Path:
    started = time.monotonic()
    trained_from = identity(config, data, evaluation)
    facts = {
        "training": trained_from.facts(),
        "evaluation": evaluation_settings(config, evaluation),
    }
    finished = is_finished(workdir, facts)
    if finished and trial:
        return workdir
    if finished and not reevaluate:
        say(f"{workdir} is finished; --reevaluate evaluates it again\n")
        found = read_measurements(workdir / RESULTS)
        say(printed_results(TASKS[config.experiment], found, [config.method.name]))
        return workdir

    times = {}
    if config.steps and not trial and not _has_checkpoint(workdir):
        rehearse(config, data, workdir)
        times["rehearsal"] = time.monotonic() - started
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
    times["training"] = time.monotonic() - started - sum(times.values())
    say(f"trained after {time.monotonic() - started:.0f} s; evaluating")
    text = _evaluate(ready, config, state, workdir, facts, draws=not trial)
    wait_for_all("evaluated")
    times["evaluation"] = time.monotonic() - started - sum(times.values())
    if trial:
        return workdir
    say(f"\n{text}")
    parts = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in times.items())
    say(f"wrote {workdir}/ in {sum(times.values()):.0f} s ({parts}); results.md has every number")
    return workdir


def _evaluate(
    ready: Ready,
    config: ConfigDict,
    state: TrainState,
    workdir: Path,
    facts: dict[str, Any],
    *,
    draws: bool,
) -> str:
    """Writes the results of a trained state into the folder and seals them; what to print."""
    folder = own_folder(workdir)
    kept = KeptMeasurements(folder / "measured.json", facts)
    trained = ready.trained(config, state, folder, kept=kept, draws=draws)
    trained.figures.mkdir(exist_ok=True)
    if config.steps and draws:
        training_curves(trained.figures / "training_curves.png", workdir / "metrics.jsonl")
    try:
        text = write_results(ready.task, trained)
    except FAILURES:
        raise
    except ValueError as error:  # of the data or the settings: checks of ours and of libraries
        remedy = "the training is kept: change the setting and run the same command again"
        raise ConfigError(f"{workdir}: evaluation: {error}; {remedy}") from error
    seal(folder, facts)  # last: it says that the run is finished
    kept.remove()
    return text


def _has_checkpoint(workdir: Path) -> bool:
    """Whether some of the training is done."""
    return any(place.name.isdigit() for place in (workdir / "checkpoints").glob("*"))


def _announce(feature_set, fitting: Fitting) -> None:
    """The first line of a run: devices, data, what modalities are made of, parameters."""
    leaves = jax.tree.leaves(jax.eval_shape(fitting.initial).params)
    shapes = {m: tuple(x.shape[1:]) for m, x in feature_set.features.items()}
    read_by = {m: f" by {name}" for m, name in fitting.method.encoders(shapes).items()}
    features = ", ".join(
        f"{m} {kind.value} {list(shapes[m])}{read_by.get(m, '')}"
        for m, kind in feature_set.kinds.items()
    )
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
