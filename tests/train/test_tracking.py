"""A run's log in an experiment tracker, by the real libraries, on this machine alone."""

import importlib
import json
import sqlite3

import pytest
from ml_collections import ConfigDict

from unirep_jax.identity import training_settings
from unirep_jax.train.logs import RunLog
from unirep_jax.train.tracking import check_tracking, tracking
from unirep_jax.workdir import default_workdir

LIBRARIES = ("trackio", "wandb", "mlflow")


def settings(to="trackio"):
    return ConfigDict(
        {
            "experiment": "oscmg",
            "seed": 3,
            "data": {"name": "toy", "path": ""},
            "method": {"name": "micu", "dim": 8},
            "log": {"to": to, "project": "test"},
        }
    )


def logged(folder, tracked, start, steps):
    """The log of one start of a run: a line for each of these steps."""
    log = RunLog(folder, start_step=start, tracked=tracked)
    for step in steps:
        log.add(step, {"loss": step / 2, "coarse": float(step)})
        log.flush(step)
    log.close()


@pytest.fixture
def local(tmp_path, monkeypatch):
    """An empty folder for a run, and trackers that write nowhere else."""
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "sweep" / "MICU" / "seed3"
    folder.mkdir(parents=True)
    return folder


def test_trackio_gets_the_lines_of_both_starts_of_a_run_under_one_name(local, monkeypatch):
    trackio = pytest.importorskip("trackio")
    storage = importlib.import_module("trackio.sqlite_storage")
    for module in (storage, importlib.import_module("trackio.utils")):
        monkeypatch.setattr(module, "TRACKIO_DIR", local / "trackio")
    tracked = tracking(settings(), local)
    assert tracked.run.startswith("MICU-seed3-")
    logged(local, tracked, 0, (2, 4))
    logged(local, tracked, 4, (6,))
    assert storage.SQLiteStorage.get_runs("test") == [tracked.run]
    rows = storage.SQLiteStorage.get_logs("test", tracked.run)
    assert [(row["step"], row["loss"], row["coarse"]) for row in rows] == [
        (2, 1.0, 2.0),
        (4, 2.0, 4.0),
        (6, 3.0, 6.0),
    ]
    lines = (local / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [1.0, 2.0, 3.0]
    assert trackio.Api().runs("test")[0].config["method.dim"] == 8


def test_wandb_writes_into_the_folder_of_the_run_without_a_network(local):
    pytest.importorskip("wandb")
    logged(local, tracking(settings("wandb"), local), 0, (2, 4))
    (run,) = (local / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own use of SQLAlchemy
def test_mlflow_goes_on_in_the_run_that_it_has_begun(local):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    tracked = tracking(settings("mlflow"), local)
    logged(local, tracked, 0, (2, 4))
    logged(local, tracked, 4, (6,))
    with sqlite3.connect(local / "mlflow.db") as base:
        assert base.execute("select count(*) from runs").fetchone() == (1,)
        rows = base.execute("select step, value from metrics where key = 'loss' order by step")
        assert rows.fetchall() == [(2, 1.0), (4, 2.0), (6, 3.0)]
        known = dict(base.execute("select key, value from params").fetchall())
        assert known["method.dim"] == "8" and known["seed"] == "3"


def test_nothing_is_tracked_unless_it_is_asked_for(local):
    assert tracking(settings(""), local) is None
    assert tracking(ConfigDict({"steps": 3}), local) is None


def test_a_run_has_one_name_at_every_start_and_seeds_of_two_sweeps_have_two(tmp_path):
    folders = [tmp_path / sweep / "MICU" / "seed0" for sweep in ("one", "two")]
    first, second = (tracking(settings(), folder).run for folder in folders)
    assert first != second and tracking(settings(), folders[0]).run == first


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install(library, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"log.to='{library}': {library} is not installed; pip"):
        check_tracking(settings(library))
    check_tracking(settings(""))


def test_an_unknown_tracker_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'tracko' is none of .* \(did you mean 'trackio'\?\)"):
        check_tracking(settings("tracko"))


def test_where_a_run_is_tracked_changes_neither_its_folder_nor_what_it_trains():
    here, there = settings("trackio"), settings("wandb")
    assert training_settings(here) == training_settings(there)
    assert default_workdir(here) == default_workdir(there)
    before = settings()
    with before.unlocked():
        del before.log  # a folder of a version without the section
    assert training_settings(before) == training_settings(here)
