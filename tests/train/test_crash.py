"""Runs killed again and again, wherever they happen to be, end as the unbroken run, bit for bit."""

import contextlib
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from command_runs import (
    CommandLine,
    assert_same_run,
    checkpoint_folders,
    checkpoint_leaves,
    kill,
    printed,
    unfinished_checkpoints,
)

from unirep_jax.train.signals import NUMBERS

pytestmark = pytest.mark.slow

STREAMED = {
    "steps": 300,
    "batch_size": 32,
    "task.probe.steps": 20,
    "task.folds": 2,
    "task.control": False,
    "method.dim": 16,
    "method.codes": 12,
    "method.layers": 1,
    "method.pieces": 2,
    "method.permutations": 2,
    "train.log_every": 20,
    "train.checkpoint_every": 20,
}
RESIDENT = {
    "steps": 600,
    "batch_size": 32,
    "train.fused": 10,
    "train.log_every": 20,
    "train.checkpoint_every": 100,
    "method.dim": 16,
    "method.width": 16,
    "method.hidden": 16,
    "method.latent": 16,
    "pretrain.steps": 200,
    "pretrain.batch_size": 32,
    "pretrain.method.dim": 16,
    "pretrain.method.width": 16,
    "pretrain.train.log_every": 20,
    "pretrain.train.checkpoint_every": 40,
}


class Attempt:
    """A process from its start to SIGKILL, and how far it has come."""

    def __init__(self, command: CommandLine, workdir: Path):
        self.workdir = workdir
        self.old = checkpoint_folders(workdir) | self.unfinished()
        self.process = command.start(workdir)

    def unfinished(self) -> set[tuple[Path, int]]:
        """Checkpoints being written; what an earlier process has left is of another time."""
        with contextlib.suppress(FileNotFoundError):  # renamed at this moment
            return {(p, p.stat().st_ctime_ns) for p in unfinished_checkpoints(self.workdir)}
        return set()

    def trains(self) -> bool:
        return any(words in printed(self.workdir) for words in ("device(s) |", "pretraining "))

    def has_stepped(self) -> bool:
        return bool(checkpoint_folders(self.workdir) - self.old)

    def writes(self) -> bool:
        return self.trains() and bool(self.unfinished() - self.old)

    def evaluates(self) -> bool:
        return "; evaluating" in printed(self.workdir)

    def kill_in(self, phase: str, rng: random.Random) -> bool:
        """Kills at a random moment of the phase; False if the process has ended before."""
        begun, spread = PHASES[phase]
        end = time.monotonic() + 600
        try:
            while self.process.poll() is None and not begun(self):
                assert time.monotonic() < end, "the run hangs"
                time.sleep(0.002)
            time.sleep(spread * rng.random())
        finally:
            killed = kill(self.process)
        return killed

    def reached(self) -> str:
        """The phase in which it was killed, by what it has left."""
        if self.evaluates():
            return "evaluation"
        if self.writes():
            return "checkpoint write"
        if self.has_stepped():
            return "step"
        return "compile" if self.trains() else "data start"


# From when on, and within how many seconds a kill is drawn. What comes before the first new
# checkpoint counts as compilation.
PHASES = {
    "data start": (lambda _: True, 8.0),
    "compile": (Attempt.trains, 2.0),
    "step": (Attempt.has_stepped, 0.3),
    "checkpoint write": (Attempt.writes, 0.03),
    "evaluation": (Attempt.evaluates, 4.0),
}


@pytest.mark.parametrize(
    ("config", "settings", "plan"),
    [
        (
            "oscmg.py:digits_avt",
            STREAMED,
            {"data start": 4, "compile": 4, "step": 4, "checkpoint write": 5, "evaluation": 5},
        ),
        (
            "oom.py:digits_avt",
            RESIDENT,
            {"data start": 2, "compile": 3, "step": 4, "checkpoint write": 6, "evaluation": 5},
        ),
    ],
    ids=["streamed", "resident"],
)
def test_a_run_killed_twenty_times_ends_as_the_unbroken_one(config, settings, plan, tmp_path):
    command = CommandLine(config, settings)
    command.finish(tmp_path / "unbroken")
    workdir, rng, landed = tmp_path / "broken", random.Random(config), Counter()
    last = ["evaluation"] * plan["evaluation"]
    training = [name for name, count in plan.items() for _ in range(count) if name != "evaluation"]
    rng.shuffle(training)
    for name in (*training, *last):
        attempt = Attempt(command, workdir)
        if attempt.kill_in(name, rng):
            landed[attempt.reached()] += 1
        assert "Traceback" not in printed(workdir), printed(workdir)
    command.finish(workdir)
    report = ", ".join(f"{name} {landed[name]}" for name in PHASES)
    print(f"\n{config}: {landed.total()} kills: {report}")
    assert_same_run(workdir, tmp_path / "unbroken")
    assert landed.total() >= 20 and min(landed[name] for name in PHASES) >= 1, report


@pytest.fixture(scope="module")
def command() -> CommandLine:
    return CommandLine("oscmg.py:digits_avt", STREAMED)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n.name)
def test_a_signal_saves_and_says_so_by_its_exit_status_and_the_run_continues(
    command, tmp_path, number
):
    command.finish(tmp_path / "unbroken")
    workdir = tmp_path / "broken"
    process = command.start(workdir)
    while not checkpoint_folders(workdir) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=600) == 128 + number, printed(workdir)
    assert f"{number.name}: saved after step" in printed(workdir)
    assert "Traceback" not in printed(workdir)
    assert "continuing from step" in command.finish(workdir)
    assert_same_run(workdir, tmp_path / "unbroken")


def test_a_disk_that_fills_up_ends_the_run_and_loses_no_checkpoint(command, tmp_path, small_disk):
    """There is room for a few checkpoints; with more room the run goes on."""
    command.finish(tmp_path / "unbroken")
    workdir = small_disk("size=2m") / "run"
    output = command.finish(workdir, code=1)
    assert "error: " in output.splitlines()[-1] and "No space left" in output.splitlines()[-1]
    last = max(checkpoint_folders(workdir), key=lambda folder: int(folder.name))
    assert checkpoint_leaves(workdir / last)
    small_disk("size=64m")
    assert f"continuing from step {last.name} of" in command.finish(workdir)
    assert_same_run(workdir, tmp_path / "unbroken")


def test_an_unknown_setting_fails_and_names_the_right_one(command, tmp_path):
    output = command.finish(tmp_path / "run", code=1, **{"train.leraning_rate": 1})
    assert "leraning_rate" in output and not (tmp_path / "run").exists()


def test_a_bad_feature_file_gives_one_line_and_leaves_nothing(command, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK")
    settings = {"data.name": "features", "data.path": bad}
    output = command.finish(tmp_path / "run", code=1, **settings)
    assert f"error: {bad}: expected an .npz file" in output and not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_with_step_term_and_checkpoint(command, tmp_path):
    # The first step makes parameters so large that the second overflows.
    settings = {"train.lr": 1e30, "train.warmup": 0, "train.schedule": "constant"}
    output = command.finish(tmp_path / "run", code=1, **settings)
    assert "error: step 2: " in output and "not finite" in output
    assert "last good state: start" in output
    assert not (tmp_path / "run" / "results.jsonl").exists()
