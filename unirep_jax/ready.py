"""Everything before the first step of an experiment: data, task, method, and their checks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ml_collections import ConfigDict

from unirep_jax.data import FeatureFileError, FeatureSet
from unirep_jax.data.catalog import DATA_SETS, load_data
from unirep_jax.defaults import settled
from unirep_jax.methods import METHODS
from unirep_jax.methods.method import Pretrain
from unirep_jax.pretrain import pretrain
from unirep_jax.start import start_of, with_start
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.task import Prepared, Task, Trained
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.train.fit import Fitting, prepare
from unirep_jax.train.settings import check_training
from unirep_jax.train.step import TrainState
from unirep_jax.workdir import ConfigError


class Ready(NamedTuple):
    """Everything before the first step: task, data, method on them, what pretrains encoders."""

    task: Task
    prepared: Prepared
    fitting: Fitting
    pretrain: Pretrain

    def trained(
        self, config: ConfigDict, state: TrainState, workdir: Path, **extent: Any
    ) -> Trained:
        """The method at this state, to be evaluated; `extent`: further fields of `Trained`."""
        return Trained(
            self.prepared,
            config.method.name,
            config.seed,
            state,
            self.fitting,
            self.pretrain,
            workdir,
            **extent,
        )


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
      ConfigError, FeatureFileError: as `experiment.run`.
    """
    return _as_config_error(_set_up, config, workdir, pretrain, data)


def load(config: ConfigDict) -> FeatureSet:
    """The feature set. Raises: ConfigError, FeatureFileError, as `experiment.run`."""
    return _as_config_error(_load, config)


def load_settled(config: ConfigDict) -> tuple[FeatureSet, ConfigDict, dict[str, Any]]:
    """The feature set, the configuration with its open settings chosen for it, and these.

    Raises:
      ConfigError, FeatureFileError: as `experiment.run`.
    """
    data = load(config)
    config, chosen = _as_config_error(_settled, config, data)
    _as_config_error(check_training, config, config.seed)  # before anything is rehearsed or trained
    return data, config, chosen


def _as_config_error(function: Callable, *arguments: Any) -> Any:
    """What the function returns; what it refuses, as an error of the configuration."""
    try:
        return function(*arguments)
    except (FeatureFileError, CheckpointError):
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def _settled(config: ConfigDict, data: FeatureSet) -> tuple[ConfigDict, dict[str, Any]]:
    return settled(with_start(config), data)


def _load(config: ConfigDict) -> FeatureSet:
    """Refuses what does not exist first, as a ValueError."""
    for key, value, known in (
        ("experiment", config.experiment, TASKS),
        ("data.name", config.data.name, DATA_SETS),
        ("method.name", config.method.name, METHODS),
    ):
        if value not in known:
            raise ValueError(f"{key}={value!r} is none of {', '.join(known)}")
    return load_data(**config.data, seed=config.seed)


def _set_up(
    config: ConfigDict, workdir: Path, pretrain: Pretrain, data: FeatureSet | None
) -> Ready:
    """Whatever cannot be is refused here, as a ValueError."""
    whole = _load(config) if data is None else data
    config, _ = _settled(config, whole)
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
        method,
        prepared.seen,
        config,
        seed=config.seed,
        labels=prepared.labelled,
        pools=pools,
        start=start_of(config),
    )
    return Ready(task, prepared, fitting, encoders)


def _no_encoders(name: str) -> Pretrain:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise ValueError(f"{name} starts from frozen encoders: the configuration has no `pretrain`")

    return refuse
