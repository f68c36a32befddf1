"""Killed, terminated and resumed runs end as the unbroken run ends, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from unirep_jax.data import save_features

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "steps": 60, "batch_size": 32, "protocol.probe.steps": 20, "protocol.folds": 2,
    "protocol.control": False, "method.dim": 16, "method.codes": 12, "method.layers": 1,
    "method.pieces": 2, "method.permutations": 2, "train.log_every": 10,
    "train.checkpoint_every": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def command(tmp_path_factory, paired_features):
    """Starts the command line on the toy data in a workdir; programs are compiled once for all."""
    folder = tmp_path_factory.mktemp("features")
    save_features(folder / "toy.npz", paired_features)
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(workdir: Path, **settings) -> subprocess.Popen:
        flags = [f"--config.{key}={value}" for key, value in (SETTINGS | settings).items()]
        return subprocess.Popen(
            [sys.executable, "-m", "unirep_jax.main", "--config=configs/oscmg.py:features",
             f"--config.data.path={folder / 'toy.npz'}", f"--workdir={workdir}", *flags],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


@pytest.fixture(scope="module")
def unbroken(command, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    process = command(workdir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return workdir


def wait_for(condition, process, timeout=600) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end and process.poll() is None, "the run ended or hangs"
        time.sleep(0.02)


def kill(process) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def checkpoint_bytes(workdir: Path) -> dict:
    with ocp.CheckpointManager(workdir.absolute() / "checkpoints") as manager:
        state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def assert_same_run(workdir: Path, unbroken: Path) -> None:
    assert (workdir / "results.jsonl").read_bytes() == (unbroken / "results.jsonl").read_bytes()
    ours, theirs = checkpoint_bytes(workdir), checkpoint_bytes(unbroken)
    assert len(theirs) > 20
    assert ours == theirs


def test_a_run_writes_everything_that_it_promises(unbroken):
    for name in (
        "config.json",
        "metrics.jsonl",
        "results.jsonl",
        "results.md",
        "checkpoints/60",
        "figures/codebook_usage.png",
        "figures/training_curves.png",
        "tensorboard",
    ):
        assert (unbroken / name).exists(), name  # fmt: skip
    rows = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    results = [json.loads(line) for line in (unbroken / "results.jsonl").read_text().splitlines()]
    fields = {"experiment", "method", "dataset", "split", "source", "target", "metric", "value",
              "num_examples", "seed", "selection"}  # fmt: skip
    assert all(set(row) == fields and 0 <= row["value"] <= 1 for row in results)
    assert {row["selection"] for row in results} == {"honest", "paper", "none"}


def test_killed_during_training_and_during_evaluation_then_continued(command, unbroken, tmp_path):
    workdir = tmp_path / "run"
    process = command(workdir)
    wait_for((workdir / "checkpoints" / "20").exists, process)
    kill(process)
    assert not (workdir / "results.jsonl").exists()

    process = command(workdir)
    for line in process.stdout:
        if "evaluating" in line:
            break
    kill(process)

    process = command(workdir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert_same_run(workdir, unbroken)


def test_sigterm_saves_and_exits_cleanly_and_the_run_continues(command, unbroken, tmp_path):
    workdir = tmp_path / "run"
    process = command(workdir)
    wait_for((workdir / "checkpoints" / "10").exists, process)
    process.terminate()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "SIGTERM: saved after step" in output and "Traceback" not in output

    process = command(workdir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and "continuing from step" in output, output
    assert_same_run(workdir, unbroken)


def test_a_finished_run_says_so_and_another_configuration_is_refused(command, unbroken):
    before = (unbroken / "results.jsonl").stat().st_mtime_ns
    process = command(unbroken)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and "is finished" in output and "--reevaluate" in output
    assert (unbroken / "results.jsonl").stat().st_mtime_ns == before

    process = command(unbroken, **{"method.dropout": 0.3})
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1 and "Traceback" not in output
    assert "method.dropout is 0.1 there and 0.3 here" in output


def test_an_unknown_setting_fails_and_names_the_right_one(command, tmp_path):
    process = command(tmp_path / "run", **{"train.leraning_rate": 1})
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0 and "leraning_rate" in output
    assert not (tmp_path / "run").exists()


def test_a_bad_feature_file_gives_one_error_and_leaves_nothing(command, tmp_path):
    bad = tmp_path / "bad.npz"
    np.savez(bad, **{"modality/a": np.ones((4, 3))})
    process = command(tmp_path / "run", **{"data.path": bad})
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1 and "Traceback" not in output
    assert str(bad) in output and "label" in output
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_with_step_term_and_checkpoint(command, tmp_path):
    # The first step makes parameters so large that the second overflows.
    settings = {"train.lr": 1e30, "train.warmup": 0, "train.schedule": "constant"}
    process = command(tmp_path / "run", **settings)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1 and "Traceback" not in output
    assert "error: step 2: " in output and "not finite" in output
    assert "last good state: start" in output
    assert not (tmp_path / "run" / "results.jsonl").exists()
