"""Runs of the command line in processes of their own, on small settings, and what they leave."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from unirep_jax.train.signals import NUMBERS

ROOT = Path(__file__).parents[2]


class CommandLine:
    """Starts one configuration in any workdir, on one device; compiles it once for all runs."""

    def __init__(self, config: str, settings: dict):
        self.config, self.settings = config, settings
        # A collective of several processes waits for as long as one of them compiles.
        apart = ("--xla_force_host_platform_device_count", "--xla_cpu_collective")
        flags = [flag for flag in os.environ["XLA_FLAGS"].split() if not flag.startswith(apart)]
        self.environment = {**os.environ, "XLA_FLAGS": " ".join(flags)}

    def start(self, workdir: Path, **settings) -> subprocess.Popen:
        """A run under way; `printed` is what it prints."""
        with _output(workdir).open("w") as stream:
            return subprocess.Popen(
                self.arguments(workdir, **settings),
                cwd=ROOT,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                preexec_fn=heed_signals,
            )

    def arguments(self, workdir: Path, **settings) -> list[str]:
        flags = [f"--config.{key}={value}" for key, value in (self.settings | settings).items()]
        return [
            sys.executable,
            "-m",
            "unirep_jax.main",
            f"--config=configs/{self.config}",
            f"--workdir={workdir}",
            *flags,
        ]

    def finish(self, workdir: Path, *, code: int = 0, **settings) -> str:
        """A run to its end, which must have this exit status; what it printed."""
        process = self.start(workdir, **settings)
        process.wait(timeout=600)
        assert process.returncode == code, printed(workdir)
        return printed(workdir)


def heed_signals() -> None:
    """What was started in the background is told to ignore some."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)


def _output(workdir: Path) -> Path:
    """Beside every workdir of the test, and not inside: that may be on a disk that is full."""
    name = hashlib.sha256(str(workdir).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"{name}.txt"


def printed(workdir: Path) -> str:
    return _output(workdir).read_text(errors="replace")


def kill(process: subprocess.Popen) -> bool:
    """Whether the process was alive until SIGKILL."""
    process.send_signal(signal.SIGKILL)
    return process.wait(timeout=60) == -signal.SIGKILL


def checkpoint_folders(workdir: Path) -> set[Path]:
    """Every checkpoint of the run and of its frozen encoders, relative to the workdir."""
    return {p.relative_to(workdir) for p in _checkpoints(workdir) if p.name.isdigit()}


def unfinished_checkpoints(workdir: Path) -> set[Path]:
    """Those that are being written, or were when a process ended."""
    return {p for p in _checkpoints(workdir) if p.name.endswith(".orbax-checkpoint-tmp")}


def _checkpoints(workdir: Path) -> set[Path]:
    # Not recursively: what is below them comes and goes.
    return {*workdir.glob("checkpoints/*"), *workdir.glob("pretrain/*/checkpoints/*")}


def checkpoint_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its place."""
    with ocp.CheckpointManager(folder.absolute().parent) as manager:
        state = manager.restore(int(folder.name), args=ocp.args.StandardRestore())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def checkpoint_leaves(folder: Path) -> dict[str, bytes]:
    """Dtype, shape and bytes of every array of a checkpoint, by its place."""
    arrays = checkpoint_arrays(folder)
    return {k: f"{x.dtype} {x.shape} ".encode() + x.tobytes() for k, x in arrays.items()}


def assert_same_run(workdir: Path, unbroken: Path) -> None:
    """Measurements, logs, perceptions and checkpoints are the same, bit for bit."""
    for name in ("config.json", "results.jsonl", "results.md", "metrics.jsonl"):
        assert (workdir / name).read_bytes() == (unbroken / name).read_bytes(), name
    for file in unbroken.rglob("embeddings.npz"):
        with np.load(file) as theirs, np.load(workdir / file.relative_to(unbroken)) as ours:
            assert {k: x.tobytes() for k, x in ours.items()} == {
                k: x.tobytes() for k, x in theirs.items()
            }
    folders = checkpoint_folders(unbroken)
    assert folders and folders <= checkpoint_folders(workdir)
    for folder in folders:
        theirs = checkpoint_leaves(unbroken / folder)
        assert len(theirs) > 20
        assert checkpoint_leaves(workdir / folder) == theirs, folder


def logged_steps(workdir: Path) -> list[int]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]
