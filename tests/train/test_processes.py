"""Several processes on loopback train what one does, and none of them waits for a dead one."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from command_runs import ROOT, CommandLine, checkpoint_arrays

from unirep_jax.data import save_features

DEVICES = 4  # over all processes
SETTINGS = {
    "steps": 120,
    "batch_size": 16,
    "train.log_every": 20,
    "train.checkpoint_every": 20,
    "method.width": 8,
    "method.hidden": 8,
    "task.known": 3,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory, paired_features):
    """Starts the command line in so many processes; programs are compiled once for all."""
    folder = tmp_path_factory.mktemp("features")
    save_features(folder / "toy.npz", paired_features)
    settings = SETTINGS | {"data.path": folder / "toy.npz"}
    line = CommandLine("mmosr.py:features,concat", settings)

    def start(workdir: Path, count: int, **settings) -> list[subprocess.Popen]:
        devices = f"--xla_force_host_platform_device_count={DEVICES // count}"
        environment = line.environment | {"XLA_FLAGS": f"{line.environment['XLA_FLAGS']} {devices}"}
        address = f"--coordinator=127.0.0.1:{free_port()}"
        meeting = [[address, f"--processes={count}", f"--process={i}"] for i in range(count)]
        return [
            subprocess.Popen(
                line.arguments(workdir, **settings) + (flags if count > 1 else []),
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for flags in meeting
        ]

    return start


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("alone") / "run"
    finish(start(workdir, 1))
    return workdir


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def finish(processes: list[subprocess.Popen], *, code: int = 0) -> list[str]:
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == code, output
    return outputs


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_run(workdir: Path, alone: Path) -> None:
    ours, theirs = lines(workdir / "metrics.jsonl"), lines(alone / "metrics.jsonl")
    assert len(theirs) == SETTINGS["steps"] // SETTINGS["train.log_every"]
    for here, there in zip(ours, theirs, strict=True):
        assert here == pytest.approx(there, rel=1e-5, abs=1e-5)
    last = f"checkpoints/{SETTINGS['steps']}"
    ours, theirs = checkpoint_arrays(workdir / last), checkpoint_arrays(alone / last)
    assert ours.keys() == theirs.keys() and len(theirs) > 10
    for name, leaf in theirs.items():
        np.testing.assert_allclose(ours[name], leaf, rtol=1e-5, atol=1e-5, err_msg=name)
    ours, theirs = lines(workdir / "results.jsonl"), lines(alone / "results.jsonl")
    for here, there in zip(ours, theirs, strict=True):
        assert here["value"] == pytest.approx(there["value"], abs=0.05), (
            there
        )  # one example's worth
        assert here | {"value": 0} == there | {"value": 0}


def wait_for_checkpoint(processes: list[subprocess.Popen], workdir: Path) -> None:
    end = time.monotonic() + 300
    while not (workdir / "checkpoints" / "20").exists():
        assert time.monotonic() < end
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def kill_one_after_a_checkpoint(processes: list[subprocess.Popen], which: int, workdir: Path):
    """Returns what the others say, and how long they went on, in seconds."""
    wait_for_checkpoint(processes, workdir)
    processes[which].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    others = [process for i, process in enumerate(processes) if i != which]
    outputs = [process.communicate(timeout=120)[0] for process in others]
    assert all(process.returncode != 0 for process in others), outputs
    processes[which].communicate()
    return outputs, time.monotonic() - killed


def test_two_processes_end_as_one_does(start, alone, tmp_path):
    outputs = finish(start(tmp_path / "run", 2))
    assert "4 CPU device(s) of 2 processes" in outputs[0] and "AUROC" in outputs[0]
    assert "AUROC" not in outputs[1] and "train:" not in outputs[1]  # only the first one prints
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_after_a_kill_the_other_stops_and_one_process_continues(start, alone, tmp_path):
    workdir = tmp_path / "run"
    (output,), seconds = kill_one_after_a_checkpoint(start(workdir, 2), 1, workdir)
    assert seconds < 60
    # Whichever notices first: the step that failed, or JAX's own watch over the processes.
    assert "lost contact with another" in output or "another task died" in output, output
    assert "Fatal Python error" not in output
    assert not (workdir / "results.jsonl").exists()
    (output,) = finish(start(workdir, 1))
    assert "continuing from step" in output
    assert_same_run(workdir, alone)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_four_processes_end_as_one_does(start, alone, tmp_path, parallel):
    finish(start(tmp_path / "run", 4, parallel=parallel))
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_after_a_kill_of_the_first_the_others_stop_and_as_many_continue(start, alone, tmp_path):
    workdir = tmp_path / "run"
    _, seconds = kill_one_after_a_checkpoint(start(workdir, 4), 0, workdir)
    assert seconds < 60
    outputs = finish(start(workdir, 4))
    assert "continuing from step" in outputs[0]
    assert_same_run(workdir, alone)


@pytest.mark.slow
def test_after_sigterm_to_one_both_save_and_end_in_order(start, alone, tmp_path):
    workdir = tmp_path / "run"
    processes = start(workdir, 2)
    wait_for_checkpoint(processes, workdir)
    processes[1].send_signal(signal.SIGTERM)
    outputs = finish(processes, code=128 + signal.SIGTERM)
    assert "saved after step" in outputs[0]
    finish(start(workdir, 2))
    assert_same_run(workdir, alone)
