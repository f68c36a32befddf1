"""Every method under every task: it runs, or is refused before the first step in one line."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from unirep_jax import experiment
from unirep_jax.data import save_features
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.methods import BASELINES, COMBINED, METHODS, RECOGNIZERS
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.matrix import Matrix, matrix_tables
from unirep_jax.workdir import ConfigError

pytestmark = pytest.mark.usefixtures("standard_promotion")

CODEBOOK = {"dim": 8, "layers": 1, "codes": 8, "time": 2, "temporal": "convolution", "dropout": 0.0}
TOWERS = {"dim": 8, "layers": 0}
RECOGNIZER = {
    "width": 8,
    "heads": 2,
    "kv_heads": 1,
    "layers": 1,
    "hidden": 8,
    "embedding": 8,
    "latent": 2,
    "tokens": 2,
}
LEARNER = {"dim": 8, "width": 8, "layers": 1}
SETTINGS = {
    **dict.fromkeys(("dcid", "cmcm", "codis", "turn"), CODEBOOK),
    **dict.fromkeys(("micu", "mmjp"), CODEBOOK | {"pieces": 2, "permutations": 2}),
    **dict.fromkeys(("mover", "gram", "pairwise"), TOWERS),
    "cmcr": {
        "dim": 8,
        "hidden": 8,
        "first": ("caption_1", "camera_1"),
        "second": ("caption_2", "sensor_2"),
    },
    "cca": {"dim": 4},
    "raw": {},
    "cox": LEARNER | {"hidden": 8, "latent": 4, "warmup": 0.0},
    **dict.fromkeys(COMBINED, LEARNER | {"hidden": 8, "latent": 4, "warmup": 0.0}),
    **dict.fromkeys(BASELINES, LEARNER),
    **dict.fromkeys(RECOGNIZERS, RECOGNIZER),
}
PROBE = {"steps": 2, "hidden": 4}
TASK_SETTINGS = {
    "cmg": {"probe": PROBE},
    "oscmg": {"probe": PROBE, "folds": 2},
    "retrieval": {},
    "few_label": {"probe": PROBE, "labelled": 0.2},
    "matrix": {
        "oscmg": {"probe": PROBE, "folds": 2},
        "few_label": {"probe": PROBE, "labelled": 0.2},
    },
    "mmosr": {},
    "connect": {},
    "oom": {"modality": "sensor", "labelled": 0.2, "retrace": False},
    "noisy_pairs": {},
    "known_information": {},
    "transfer": {},
}
# What runs, by class of method: all else is refused.
REPRESENTATION = ("cmg", "oscmg", "retrieval", "few_label", "matrix", "noisy_pairs")
RUNS = {
    **dict.fromkeys(
        ("micu", "mmjp", "dcid", "cmcm", "codis", "turn", "mover", "gram", "pairwise", "cca"),
        REPRESENTATION,
    ),
    "cmcr": (*REPRESENTATION, "connect"),
    "raw": ("few_label", "matrix"),
    **dict.fromkeys(("cox", *COMBINED, *BASELINES), ("oom",)),
    **dict.fromkeys(RECOGNIZERS, ("mmosr",)),
}
NEED_MORE = ("micu_released", "dcid_released")  # a file of weights


def config_of(method, task, path, **changes):
    made = METHODS[method](**SETTINGS[method])
    training = {
        "lr": 1e-3,
        "schedule": "constant",
        "warmup": 0,
        "weight_decay": 0.0,
        "clip": 1.0,
        "log_every": 2,
        "checkpoint_every": 2,
        "fused": 1,
    }
    pretraining = {
        "path": "",
        "steps": 2,
        "batch_size": 16,
        "parallel": "shard_map",
        "train": training,
        "method": {"measure": "cosine", "weight_transport": 0.0, "dim": 8},
    }
    config = ConfigDict(
        {
            "experiment": task,
            "seed": 0,
            "steps": 0 if method in ("cca", "raw") else 2,
            "batch_size": 16,
            "parallel": "shard_map",
            "data": {"name": "features", "path": str(path)},
            "method": {"name": method, **dataclasses.asdict(made)},
            "train": training,
            "task": TASK_SETTINGS[task],
            "pretrain": pretraining,
        }
    )
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def path(paired_features, tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "toy.npz"
    save_features(file, paired_features)
    return file


def test_the_list_of_what_runs_has_every_method_and_task():
    assert RUNS.keys() | {*NEED_MORE} == METHODS.keys()
    assert TASK_SETTINGS.keys() == TASKS.keys()


@pytest.mark.parametrize("method", [m for m in RUNS if m not in RECOGNIZERS or m in ("mrn", "tmc")])
def test_pairs_that_do_not_fit_are_refused_at_set_up_in_one_line(method, path, tmp_path):
    # The data of "known_information" are its own: tests/tasks/test_oom_known.py.
    elsewhere = {"transfer"} | ({"known_information"} if "oom" in RUNS[method] else set())
    for task in TASKS.keys() - {*RUNS[method]} - elsewhere:
        with pytest.raises(ConfigError) as caught:
            experiment.set_up(config_of(method, task, path), tmp_path)
        message = str(caught.value)
        assert task in message and method in message and "\n" not in message


@pytest.mark.parametrize("method", ["mrn", "cox"])
def test_transfer_refuses_what_embeds_nothing_or_learns_from_pools(method, path, tmp_path):
    with pytest.raises(ConfigError, match=method):
        experiment.set_up(config_of(method, "transfer", path), tmp_path)


# `matrix` measures what the other tasks of a representation do; each by itself is for the slow.
EVERY_DAY = [
    (m, t)
    for m in ("micu", "pairwise", "cmcr", "cca", "raw", "erm", "mrn")
    for t in RUNS[m]
    if t in ("matrix", "connect", "oom", "mmosr")
]
CASES = [
    pytest.param(m, t, marks=[] if (m, t) in EVERY_DAY else pytest.mark.slow)
    for m, tasks in RUNS.items()
    for t in tasks
]


@pytest.mark.parametrize(("method", "task"), CASES)
def test_pairs_that_fit_are_trained_evaluated_and_tabulated(method, task, path, tmp_path):
    changes = {"train.fused": 2} if task == "connect" else {}
    folder = experiment.run(config_of(method, task, path, **changes), tmp_path / "run")
    measurements = read_measurements(folder / "results.jsonl")
    assert any(m.method == method for m in measurements)
    assert all(np.isfinite(m.value) for m in measurements)
    table = (folder / "results.md").read_text()
    assert method in table and "nan" not in table
    if task in REPRESENTATION and method not in ("cca", "raw"):
        assert {"untrained", "cca", "chance"} <= {m.method for m in measurements}
    assert (folder / "model" / "model.json").exists()


def test_the_matrix_has_a_column_per_task_and_a_row_per_method(paired_features, path, tmp_path):
    config = config_of("pairwise", "matrix", path)
    folder = experiment.run(config, tmp_path / "run")
    measurements = read_measurements(folder / "results.jsonl")
    table = matrix_tables(measurements).split("###")[1]
    for method in ("pairwise", "untrained", "cca", "raw", "chance"):
        assert f"\n| {method} " in table
    raw = next(line for line in table.splitlines() if line.startswith("| raw"))
    cells = [cell.strip() for cell in raw.split("|")[2:-1]]
    assert cells[:-1] == ["-"] * 7 and cells[-1] != "-", "raw features share no space"


def test_a_task_that_changes_what_training_sees_cannot_be_one_of_several(paired_features):
    with pytest.raises(ValueError, match="only --config=retrieval has further sets"):
        Matrix(retrieval={"evaluate_on": ("other",)}).shown(paired_features, 0)
    task = Matrix(retrieval={"withheld": ("sensor",)})
    with pytest.raises(ValueError, match="trains on data of its own"):
        task.shown(paired_features, 0)


def test_the_rows_of_the_sweep_are_valid_methods():
    module = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "matrix.py"))
    rows = module["get_variants"]("methods,utd_mhad")
    assert len(rows) == 10 and len(module["get_variants"]("methods")) == 9
    for row in rows.values():
        settings = dict(row["method"])
        METHODS[settings.pop("name")](**settings)
    assert rows["C-MCR"]["method"]["first"] == ("skeleton_1", "depth_1")
    with pytest.raises(ValueError, match="'best' is none of methods"):
        module["get_variants"]("best")
    with pytest.raises(ValueError, match="none of the data sets with two spaces"):
        module["get_variants"]("methods,mosi")


def test_what_the_data_do_not_allow_ends_in_one_line_and_keeps_the_training(
    path, tmp_path, monkeypatch
):
    def refuse(self, trained):
        if trained.state.step == 0:  # rehearsed
            return evaluate(self, trained)
        raise ValueError("no direction can be measured")

    config = config_of("pairwise", "retrieval", path)
    evaluate = TASKS["retrieval"].evaluate
    monkeypatch.setattr(TASKS["retrieval"], "evaluate", refuse)
    with pytest.raises(ConfigError, match=r"evaluation: no direction .* training is kept"):
        experiment.run(config, tmp_path / "run")
    monkeypatch.setattr(TASKS["retrieval"], "evaluate", evaluate)
    trained = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    experiment.run(config, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == trained
