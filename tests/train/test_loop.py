"""The loop on a step of three lines: where it goes on, what it writes and when, how it stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.identity import Identity
from unirep_jax.train import loop
from unirep_jax.train.checkpoints import CheckpointError, Checkpoints
from unirep_jax.train.logs import NonFiniteError
from unirep_jax.train.loop import train
from unirep_jax.train.parallel import Engine
from unirep_jax.train.signals import NUMBERS, Interrupted
from unirep_jax.train.step import TrainState

INITIAL = TrainState(np.int32(0), np.uint32(0), {"w": np.ones(2, np.float32)}, (), {})
STEPS = 20


def engine(at=lambda step: None) -> Engine:
    """Its loss is a third of the weight, which is rounded; every step calls `at`."""

    def step(state, batch):
        at(int(state.step) + 1)
        w = state.params["w"] * np.float32(0.9) + np.float32(batch)
        state = state._replace(step=np.int32(state.step + 1), params={"w": w})
        return state, {"loss": w[0] / np.float32(3)}

    same = lambda x: x
    return Engine(step, same, same, same, None, 1, False)


def run(workdir: Path, at=lambda step: None, **changes) -> TrainState:
    settings = {"steps": STEPS, "batch_size": 4, "log_every": 6, "checkpoint_every": 5} | changes
    batches = lambda start: iter(np.sin(np.arange(start, settings["steps"], dtype=np.float32)))
    return train(engine(at), lambda: INITIAL, batches, workdir=workdir, **settings)


def steps_saved(workdir: Path) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("unbroken")
    run(workdir)
    return workdir


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n.name)
@pytest.mark.parametrize("stop", [2, 7, 12, STEPS])
def test_a_signal_at_any_step_saves_and_the_run_ends_as_the_unbroken_one(
    tmp_path, unbroken, number, stop, capfd
):
    """In its log, too: the line that was begun before the signal is finished after it."""
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, lambda step: step == stop and signal.raise_signal(number))
    assert caught.value.code == 128 + number
    assert str(caught.value) == f"{number.name}: saved after step {stop} of {STEPS}"
    assert steps_saved(tmp_path)[-1] == stop
    begun = []
    state = run(tmp_path, begun.append)
    assert begun == [*range(stop + 1, STEPS + 1)]
    np.testing.assert_array_equal(state.params["w"], run(unbroken).params["w"])
    log = (unbroken / "metrics.jsonl").read_bytes()
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
    assert [json.loads(line)["step"] for line in log.splitlines()] == [6, 12, 18, 20]


def test_before_its_first_step_a_run_has_nothing_to_save_and_ends_as_ever(tmp_path):
    """The first step is that which is compiled, for minutes."""
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path, lambda step: signal.raise_signal(signal.SIGINT))
    assert not isinstance(caught.value, Interrupted) and steps_saved(tmp_path) == []


def test_a_checkpoint_is_due_by_time_whatever_its_step(tmp_path, monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock["now"])
    saved, save = [], Checkpoints.save

    def noted(self, step, *rest):
        saved.append(step)
        save(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", noted)

    def passes(step):
        clock["now"] += 30.0

    run(tmp_path, passes, checkpoint_every=5000)
    # The clock starts after the first step; 120 seconds are four steps.
    assert saved == [5, 9, 13, 17, 20]
    run(tmp_path / "own", passes, checkpoint_every=5000, checkpoint_seconds=300.0)
    assert saved[5:] == [11, 20]


@pytest.mark.parametrize("what", ["junk", "missing", "a folder", "a link to nothing", "a pipe"])
def test_a_log_that_is_lost_does_not_stop_a_run(tmp_path, what, capsys):
    with pytest.raises(Interrupted):
        run(tmp_path, lambda step: step == 15 and signal.raise_signal(signal.SIGINT))
    log = tmp_path / "metrics.jsonl"
    log.unlink()
    if what == "junk":
        log.write_bytes(b'\xff\x00{"step": 6}\n[[[\n{"step": 12, "loss": NaN}\n{"step": 6, "loss"')
    elif what == "a folder":
        log.mkdir()
        (log / "kept").touch()
    elif what == "a link to nothing":
        log.symlink_to(tmp_path / "nothing")
    elif what == "a pipe":
        os.mkfifo(log)
    run(tmp_path)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [18, 20]
    aside = [*tmp_path.glob("metrics.jsonl.set-aside*")]
    assert len(aside) == (what in ("a folder", "a link to nothing", "a pipe"))
    assert all(f"renamed to {path.name}" in capsys.readouterr().out for path in aside)


def test_another_process_is_refused_while_a_run_trains(tmp_path):
    program = (
        "import sys; from pathlib import Path; from unirep_jax.train.lock import owned\n"
        "with owned(Path(sys.argv[1])): pass"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    errors = []

    def other(step):
        if step == 3:
            errors.append(subprocess.run(command, capture_output=True, text=True).stderr)

    run(tmp_path, other)
    assert f"FolderInUseError: {tmp_path} is in use by process {os.getpid()} on" in errors[0]
    assert steps_saved(tmp_path) == [15, 20]


def test_two_versions_do_not_train_one_network_but_a_finished_one_is_read(tmp_path):
    identity = Identity({"seed": 0}, {}, "1.0")
    with pytest.raises(Interrupted):
        run(
            tmp_path,
            lambda step: step == 9 and signal.raise_signal(signal.SIGTERM),
            identity=identity,
        )
    later = identity._replace(version="1.1")
    with pytest.raises(CheckpointError, match=r"9 steps were trained by unirep_jax 1\.0, .* 1\.1"):
        run(tmp_path, identity=later)
    run(tmp_path, identity=identity)
    run(tmp_path, identity=later)


def test_what_is_not_finite_is_never_saved(tmp_path):
    batches = lambda start: iter(
        np.where(np.arange(start, STEPS) == 8, np.inf, 1.0).astype(np.float32)
    )
    with pytest.raises(NonFiniteError, match=r"step 9: loss is not finite; .*checkpoint of step 8"):
        train(
            engine(),
            lambda: INITIAL,
            batches,
            workdir=tmp_path,
            steps=STEPS,
            batch_size=1,
            log_every=50,
            checkpoint_every=4,
        )


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, unbroken, capsys):
    shutil.copytree(unbroken, tmp_path / "run")
    for file in (tmp_path / "run/checkpoints/20").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    begun = []
    state = run(tmp_path / "run", begun.append)
    assert begun == [16, 17, 18, 19, 20]
    assert "continuing from step 15 of 20" in capsys.readouterr().out
    np.testing.assert_array_equal(state.params["w"], run(unbroken).params["w"])
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (
        unbroken / "metrics.jsonl"
    ).read_bytes()
    assert steps_saved(tmp_path / "run") == [15, 20]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"log_every": 0}, r"train\.log_every=0 is not a whole number of steps from 1"),
        ({"checkpoint_every": 0}, r"train\.checkpoint_every=0 is not a whole number of steps"),
        ({"checkpoint_seconds": -1.0}, r"checkpoint_seconds=-1\.0 is not a finite number above 0"),
        ({"steps": -5}, "steps=-5 is not a whole number of steps from 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_written(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
