"""A killed run ends as the unbroken run ends, bit for bit; test_crash.py kills many more."""

import dataclasses
import json
import runpy
import shutil
import signal
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

from unirep_jax import experiment
from unirep_jax.data import FeatureFileError, FeatureSet, save_features
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.experiment import run
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.generalization import measures
from unirep_jax.tasks.results import printed_results
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.workdir import ConfigError, is_finished

SETTINGS = {
    "steps": 30,
    "batch_size": 16,
    "task.probe.steps": 10,
    "task.probe.hidden": 16,
    "task.control": False,
    "method.dim": 8,
    "method.codes": 8,
    "method.layers": 1,
    "method.pieces": 2,
    "method.permutations": 2,
    "train.log_every": 10,
    "train.checkpoint_every": 10,
}


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
    return CommandLine("cmg.py:features", settings)


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
        assert (unbroken / name).exists(), name
    assert logged_steps(unbroken) == [10, 20, 30]
    results = [json.loads(line) for line in (unbroken / "results.jsonl").read_text().splitlines()]
    fields = {
        "experiment",
        "method",
        "dataset",
        "split",
        "source",
        "target",
        "metric",
        "value",
        "num_examples",
        "seed",
        "selection",
    }
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "sent"), [("training", signal.SIGINT), ("evaluation", signal.SIGHUP)]
)
def test_a_signal_ends_with_its_status_and_the_run_goes_on_from_there(
    command, unbroken, tmp_path, phase, sent
):
    """No checkpoint is due but by the signal; what was trained is not trained again."""
    settings = {"train.checkpoint_every": 5000, "steps": 30}
    workdir = tmp_path / "run"
    process = command.start(workdir, **settings)
    mark = {"training": "compiled the training step", "evaluation": "; evaluating"}[phase]
    end = time.monotonic() + 600
    while mark not in printed(workdir):
        assert time.monotonic() < end and process.poll() is None, printed(workdir)
        time.sleep(0.005)
    process.send_signal(sent)
    assert process.wait(timeout=600) == 128 + sent
    output = printed(workdir)
    assert "Traceback" not in output and not (workdir / "results.jsonl").exists()
    (saved,) = (int(folder.name) for folder in checkpoint_folders(workdir))
    if phase == "training":
        assert f"SIGINT: saved after step {saved} of 30; run the same command to" in output
    output = command.finish(workdir, **settings)
    assert (f"continuing from step {saved} of 30" in output) == (saved < 30)
    assert ("compiling the training step" in output) == (saved < 30)
    for name in ("results.jsonl", "results.md", "metrics.jsonl"):
        assert (workdir / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_a_finished_run_says_so_and_another_configuration_is_refused(
    feature_file, unbroken, capsys
):
    before = (unbroken / "results.jsonl").stat().st_mtime_ns
    run(config(feature_file), unbroken)
    output = capsys.readouterr().out
    assert "is finished" in output and "--reevaluate" in output
    found = read_measurements(unbroken / "results.jsonl")
    assert printed_results(TASKS["oscmg"], found, ["micu"]) in output
    with pytest.raises(ConfigError, match=r"method\.dropout is 0\.1 there and 0\.3 here"):
        run(config(feature_file, **{"method.dropout": 0.3}), unbroken)
    assert (unbroken / "results.jsonl").stat().st_mtime_ns == before


@pytest.fixture
def finished(unbroken, tmp_path):
    """A copy of the unbroken run, without what JAX cannot change between processes."""
    return shutil.copytree(unbroken, tmp_path / "run")


def test_a_setting_of_the_evaluation_evaluates_again_and_trains_nothing(
    feature_file, finished, unbroken, capsys, standard_promotion
):
    checkpoint = (finished / "checkpoints/30").stat().st_mtime_ns
    run(config(feature_file, **{"task.probe.steps": 5}), finished)
    output = capsys.readouterr().out
    assert "task.probe.steps is 10 there and 5 here: evaluating again" in output
    assert "continuing" not in output and "wrote" in output
    assert (finished / "checkpoints/30").stat().st_mtime_ns == checkpoint
    (earlier,) = (finished / "earlier").iterdir()
    theirs = (unbroken / "results.jsonl").read_bytes()
    assert (earlier / "results.jsonl").read_bytes() == theirs
    assert (finished / "results.jsonl").read_bytes() != theirs
    assert json.loads((finished / "config.json").read_text())["task"]["probe"]["steps"] == 5


@pytest.mark.parametrize("spoilt", ["", "half", None])
def test_results_that_are_not_whole_are_measured_again(
    feature_file, finished, unbroken, capsys, spoilt, standard_promotion
):
    results = finished / "results.jsonl"
    content = results.read_bytes()
    if spoilt is None:
        results.unlink()
    else:
        results.write_bytes(content[: len(content) // 2] if spoilt else b"")
    run(config(feature_file), finished)
    output = capsys.readouterr().out
    assert "is finished" not in output and "continuing" not in output
    # Of one device here and one there: the same but for rounding.
    measured, before = (
        read_measurements(folder / "results.jsonl") for folder in (finished, unbroken)
    )
    assert [dataclasses.replace(m, value=0) for m in measured] == [
        dataclasses.replace(m, value=0) for m in before
    ]


def test_an_evaluation_that_was_ended_does_not_measure_again_what_it_has(
    feature_file, finished, unbroken, monkeypatch, standard_promotion
):
    """The trained network was measured, the untrained one was not."""
    settings = {"task.control": True}
    measured_ones, closed_set = [], measures.closed_set

    def counted(representation, *rest, **options):
        measured_ones.append(representation)
        if len(measured_ones) == 2:
            raise KeyboardInterrupt
        return closed_set(representation, *rest, **options)

    monkeypatch.setattr(measures, "closed_set", counted)
    with pytest.raises(KeyboardInterrupt):
        run(config(feature_file, **settings), finished)
    assert not is_finished(finished) and (finished / "measured.json").exists()
    run(config(feature_file, **settings), finished)
    assert len(measured_ones) == 5, "untrained again, then CCA and raw features"
    methods = {m.method for m in read_measurements(finished / "results.jsonl")}
    assert methods == {"micu", "untrained", "cca", "raw", "chance"} and is_finished(finished)
    assert not (finished / "measured.json").exists()


@pytest.mark.parametrize("state", ["finished", "evaluated not yet", "without config.json"])
def test_other_data_of_the_same_shapes_are_refused_by_name(
    finished, paired_features, tmp_path, state, standard_promotion
):
    toy = paired_features
    features = {m: toy.features[m] + np.float32(1e-3) for m in ("camera", "sensor")}
    other = tmp_path / "other.npz"
    save_features(other, FeatureSet.from_arrays("toy", features, toy.label, toy.train))
    if state != "finished":
        (finished / "complete.json").unlink()
    if state == "without config.json":
        (finished / "config.json").unlink()
    before = (finished / "checkpoints/30").stat().st_mtime_ns
    with pytest.raises((ConfigError, CheckpointError), match=r"another run: data: values \(hash\)"):
        run(config(other), finished)
    assert (finished / "checkpoints/30").stat().st_mtime_ns == before


def test_without_its_configuration_a_checkpoint_is_not_taken_over(
    feature_file, finished, standard_promotion
):
    for name in ("config.json", "complete.json"):
        (finished / name).unlink()
    with pytest.raises(CheckpointError, match=r"30 is of another run: train\.lr is 0\.001 there"):
        run(config(feature_file, **{"train.lr": 0.002}), finished)


def test_a_run_that_measures_nothing_is_not_finished(
    feature_file, finished, monkeypatch, standard_promotion
):
    (finished / "complete.json").unlink()
    monkeypatch.setattr(experiment.TASKS["cmg"], "evaluate", lambda *_: [])
    with pytest.raises(ConfigError, match="nothing of these data was measured"):
        run(config(feature_file), finished)
    assert not is_finished(finished)


def test_a_bad_feature_file_leaves_nothing(tmp_path):
    bad = tmp_path / "bad.npz"
    np.savez(bad, **{"modality/a": np.ones((4, 3))})
    with pytest.raises(FeatureFileError, match=r"bad\.npz: label: expected this key"):
        run(config(bad), tmp_path / "run")
    assert not (tmp_path / "run").exists()
