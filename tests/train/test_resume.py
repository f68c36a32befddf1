"""A killed run ends as the unbroken run ends, bit for bit; test_crash.py kills many more."""

import json
import runpy
import time

import numpy as np
import pytest
from command_runs import (
    ROOT,
    CommandLine,
    assert_same_run,
    checkpoint_folders,
    kill,
    logged_steps,
    printed,
)

from unirep_jax.data import FeatureFileError, FeatureSet, save_features
from unirep_jax.experiment import run
from unirep_jax.workdir import ConfigError

SETTINGS = {
    "steps": 30, "batch_size": 16, "task.probe.steps": 10, "task.probe.hidden": 16,
    "task.control": False, "method.dim": 8, "method.codes": 8, "method.layers": 1,
    "method.pieces": 2, "method.permutations": 2, "train.log_every": 10,
    "train.checkpoint_every": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def feature_file(tmp_path_factory, paired_features):
    """Two modalities of the toy data: an evaluation of two directions."""
    toy, names = paired_features, ("camera", "sensor")
    features = {m: toy.features[m] for m in names}
    path = tmp_path_factory.mktemp("features") / "toy.npz"
    save_features(path, FeatureSet.from_arrays("toy", features, toy.label, toy.train))
    return path


@pytest.fixture(scope="module")
def command(feature_file):
    settings = SETTINGS | {"data.path": feature_file}
    return CommandLine(feature_file.parent, "cmg.py:features", settings)


@pytest.fixture(scope="module")
def unbroken(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    command.finish(workdir)
    return workdir


def config(feature_file, **changes):
    """The configuration of the command."""
    made = runpy.run_path(str(ROOT / "configs" / "cmg.py"))["get_config"]("features")
    made.update_from_flattened_dict(SETTINGS | {"data.path": str(feature_file)} | changes)
    return made


def test_a_run_writes_everything_that_it_promises(unbroken):
    for name in (
        "config.json",
        "metrics.jsonl",
        "results.jsonl",
        "results.md",
        "checkpoints/30",
        "figures/codebook_usage.png",
        "figures/training_curves.png",
        "tensorboard",
    ):
        assert (unbroken / name).exists(), name  # fmt: skip
    assert logged_steps(unbroken) == [10, 20, 30]
    results = [json.loads(line) for line in (unbroken / "results.jsonl").read_text().splitlines()]
    fields = {"experiment", "method", "dataset", "split", "source", "target", "metric", "value",
              "num_examples", "seed", "selection"}  # fmt: skip
    assert all(set(row) == fields and 0 <= row["value"] <= 1 for row in results)
    assert {row["metric"] for row in results} == {"accuracy"}


def test_a_run_killed_while_it_trains_continues_and_ends_as_the_unbroken_one(
    command, unbroken, tmp_path
):
    workdir = tmp_path / "run"
    process = command.start(workdir)
    end = time.monotonic() + 600
    while not checkpoint_folders(workdir):
        assert time.monotonic() < end and process.poll() is None, printed(workdir)
        time.sleep(0.01)
    assert kill(process) and not (workdir / "results.jsonl").exists()
    output = command.finish(workdir)
    assert "continuing from step" in output and "Traceback" not in output
    assert_same_run(workdir, unbroken)


def test_a_finished_run_says_so_and_another_configuration_is_refused(
    feature_file, unbroken, capsys
):
    before = (unbroken / "results.jsonl").stat().st_mtime_ns
    run(config(feature_file), unbroken)
    output = capsys.readouterr().out
    assert "is finished" in output and "--reevaluate" in output
    assert (unbroken / "results.md").read_text() in output
    with pytest.raises(ConfigError, match=r"method\.dropout is 0\.1 there and 0\.3 here"):
        run(config(feature_file, **{"method.dropout": 0.3}), unbroken)
    assert (unbroken / "results.jsonl").stat().st_mtime_ns == before


def test_a_bad_feature_file_leaves_nothing(tmp_path):
    bad = tmp_path / "bad.npz"
    np.savez(bad, **{"modality/a": np.ones((4, 3))})
    with pytest.raises(FeatureFileError, match=r"bad\.npz: label: expected this key"):
        run(config(bad), tmp_path / "run")
    assert not (tmp_path / "run").exists()
