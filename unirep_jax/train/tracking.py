"""What a run logs, also sent to an experiment tracker: Trackio, Weights & Biases or MLflow.

All three write to this machine unless their own environment variables name a server, so that a run
needs no network and no account. metrics.jsonl stays what resuming and reports read: a tracker only
gets a copy, from the first process.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ml_collections import ConfigDict

from unirep_jax.config_arguments import suggest
from unirep_jax.identity import flat, resolved


class Tracker(Protocol):
    """An open run of a tracker."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Means of what was measured up to this step."""

    def close(self) -> None:
        """Nothing more comes; a later start of the same run opens it again."""


class Tracking(NamedTuple):
    """Where a run is tracked.

    to: one of `TRACKERS`; project: a name that runs are compared under; run: a name that is the
    same at every start of the run, and no other's; folder: of the run; settings: dotted, to be
    shown beside its curves.
    """

    to: str
    project: str
    run: str
    folder: Path
    settings: dict[str, Any]

    def open(self) -> Tracker:
        """The run, which goes on where it was tracked before."""
        return TRACKERS[self.to](self)


def tracking(settings: ConfigDict, folder: Path) -> Tracking | None:
    """As the section `log` of the settings says; None where it asks for no tracker.

    Args:
      settings: the whole configuration; one without a section `log` is not tracked.
      folder: of the run.
    """
    log = settings.get("log", {})
    if not log.get("to"):
        return None
    return Tracking(log["to"], log["project"], _run_name(folder), folder, flat(resolved(settings)))


def check_tracking(settings: ConfigDict) -> None:
    """Refuses a tracker that cannot be used, before anything is trained.

    Raises:
      ValueError: there is no such tracker, or its library is not installed.
    """
    to = settings.get("log", {}).get("to", "")
    if to and to not in TRACKERS:
        raise ValueError(f"log.to={to!r} is none of {', '.join(TRACKERS)}{suggest(to, TRACKERS)}")
    if to and importlib.util.find_spec(to) is None:
        remedy = "'unirep_jax[tracking]'" if to == "trackio" else to
        raise ValueError(f"log.to={to!r}: {to} is not installed; pip install {remedy}")


def _run_name(folder: Path) -> str:
    """Of the folder, of the variant too where it is a seed of a sweep, and unique by its place."""
    folder = folder.resolve()
    name = folder.name
    if re.fullmatch(r"seed\d+", name):
        name = f"{folder.parent.name}-{name}"
    return f"{name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:4]}"


class _Trackio:
    """In TRACKIO_DIR, by default ~/.cache/huggingface/trackio; `trackio show` has the curves."""

    def __init__(self, run: Tracking) -> None:
        import trackio

        self._run = trackio.init(
            project=run.project,
            name=run.run,
            config=run.settings,
            resume="allow",
            embed=False,
            auto_log_gpu=False,  # what the machine does is not what the run does
            auto_log_cpu=False,
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _Wandb:
    """In the folder of the run, offline unless WANDB_MODE says otherwise; `wandb sync` sends it."""

    def __init__(self, run: Tracking) -> None:
        import wandb

        self._run = wandb.init(
            project=run.project,
            name=run.run,
            id=run.run,
            config=run.settings,
            dir=str(run.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            resume="allow",
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """In MLFLOW_TRACKING_URI, by default mlflow.db in the folder of the run."""

    def __init__(self, run: Tracking) -> None:
        from mlflow.tracking import MlflowClient

        place = f"sqlite:///{run.folder.resolve() / 'mlflow.db'}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or place)
        found = self._client.get_experiment_by_name(run.project)
        experiment = found.experiment_id if found else self._client.create_experiment(run.project)
        named = f"attributes.run_name = '{run.run}'"
        before = self._client.search_runs([experiment], named, max_results=1)
        if before:
            self._id = before[0].info.run_id
            return
        self._id = self._client.create_run(experiment, run_name=run.run).info.run_id
        for name, value in run.settings.items():
            self._client.log_param(self._id, name, value)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


TRACKERS: dict[str, Callable[[Tracking], Tracker]] = {
    "trackio": _Trackio,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}
