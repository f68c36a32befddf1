"""The one training loop: resume, step, log, save, stop cleanly."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from unirep_jax.identity import Identity
from unirep_jax.terminal import say
from unirep_jax.train.checkpoints import CheckpointError, Checkpoints, Saved
from unirep_jax.train.lock import owned
from unirep_jax.train.logs import NonFiniteError, RunLog
from unirep_jax.train.parallel import Engine
from unirep_jax.train.processes import is_first, largest_of, own_folder
from unirep_jax.train.progress import Progress, compiling, progress_stream
from unirep_jax.train.settings import CHECKPOINT_SECONDS, check_numbers
from unirep_jax.train.signals import Interrupted, Noted
from unirep_jax.train.step import TrainState
from unirep_jax.train.tracking import Tracking
from unirep_jax.train.watch import Watch

AGREE_SECONDS = 2.0  # between two questions of processes to one another


class Pace(NamedTuple):
    """How often a run writes, in steps and in seconds, and what it says of how far it is.

    examples: of an epoch; 0 for none to speak of.
    """

    steps: int
    batch_size: int
    log_every: int
    checkpoint_every: int
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    fused: int = 1
    examples: int = 0


def train(
    engine: Engine,
    initial: Callable[[], TrainState],
    batches: Callable[[int], Iterator[Any]],
    *,
    workdir: Path,
    steps: int,
    batch_size: int,
    log_every: int,
    checkpoint_every: int,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    fused: int = 1,
    examples: int = 0,
    identity: Identity | None = None,
    watch: Watch | None = None,
    tracked: Tracking | None = None,
) -> TrainState:
    """Trains to `steps`, from the last whole checkpoint in `workdir` where there is one.

    All processes call it together; the first one logs.

    Args:
      engine: the step and its devices.
      initial: makes the state before step 0.
      batches: from a step, the placed batches from there on; a function of (seed, step) alone.
      workdir: gets metrics.jsonl, environment.jsonl, tensorboard/ and checkpoints/.
      checkpoint_seconds: after which a checkpoint is due whatever its step.
      fused: steps that one call of the engine makes, a divisor of the other numbers of steps.
      examples: of an epoch, to say how many were seen; 0 for none to speak of.
      identity: what the training depends on; checkpoints of another are refused.
      watch: reads the log, and says what does nothing.
      tracked: where the first process also sends what it logs.

    Returns:
      The state after `steps` steps, on the host.

    Raises:
      ValueError: a number is not possible.
      NonFiniteError: naming step, term and the last good checkpoint.
      CheckpointError: there are checkpoints, and none is whole; or they are of another training.
      Interrupted: a signal came, and the state was saved.
    """
    check_numbers(
        {
            "steps": steps,
            "train.log_every": log_every,
            "train.checkpoint_every": checkpoint_every,
            "train.checkpoint_seconds": checkpoint_seconds,
            "train.fused": fused,
        }
    )
    pace = Pace(steps, batch_size, log_every, checkpoint_every, checkpoint_seconds, fused, examples)
    with owned(workdir), Checkpoints(workdir / "checkpoints", identity=identity) as checkpoints:
        saved = checkpoints.restore(jax.eval_shape(initial))
        if saved is None:
            with compiling("the network", progress_stream(is_first())):
                state = initial()
        else:
            state = saved.state
        if (saved.step if saved else 0) >= steps:
            return state
        if saved is not None:
            _check_version(saved, identity, workdir)
            say(f"continuing from step {saved.step} of {steps}")
        tracked = tracked if is_first() else None
        folder = own_folder(workdir)
        with _Run(engine, checkpoints, folder, pace, saved, watch, tracked) as run:
            return run.train(engine.place_state(state), batches)


class _Run(contextlib.ExitStack):
    """The steps of one start of a run; what it has open is closed on leaving."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Checkpoints,
        folder: Path,
        pace: Pace,
        saved: Saved | None,
        watch: Watch | None,
        tracked: Tracking | None,
    ) -> None:
        super().__init__()
        self._engine, self._checkpoints, self._pace = engine, checkpoints, pace
        self._start = saved.step if saved else 0
        self._log = RunLog(
            folder,
            start_step=self._start,
            unwritten=saved.log if saved else None,
            watch=watch,
            tracked=tracked,
        )
        self.callback(self._log.close)
        self._progress = Progress(
            start=self._start,
            steps=pace.steps,
            batch_size=pace.batch_size,
            examples=pace.examples,
            stream=progress_stream(is_first()),
        )
        self.callback(self._progress.close)

    def train(self, placed: Any, batches: Callable[[int], Iterator[Any]]) -> TrainState:
        try:
            return self._train(placed, batches(self._start))
        except NonFiniteError as error:
            last = self._checkpoints.latest_step()
            where = f"checkpoint of step {last}" if last else "start: no checkpoint was due yet"
            raise NonFiniteError(f"{error}; last good state: {where}") from None

    def _train(self, placed: Any, batches: Iterator[Any]) -> TrainState:
        pace, step = self._pace, self._start + self._pace.fused
        with compiling("the training step", progress_stream(is_first())):
            placed = self._step(step, placed, next(batches))
        self._progress.begin(step)
        # Until here a signal ends the process at once: there is nothing new to save.
        with Noted() as signals:
            moments = Moments(signals, pace)
            while not self._write(step, placed, moments):
                step += pace.fused
                placed = self._step(step, placed, next(batches))
                self._progress.update(step)
        return self._engine.fetch_state(placed)

    def _step(self, step: int, placed: Any, batch: Any) -> Any:
        placed, metrics = self._engine.step(placed, batch)
        if self._engine.must_block:
            jax.block_until_ready(placed)
        self._log.add(step, metrics)
        return placed

    def _write(self, step: int, placed: Any, moments: "Moments") -> bool:
        """Logs and saves what is due after a step; returns whether it was the last one."""
        pace, last = self._pace, step >= self._pace.steps
        number, due = moments.look(step)
        if last or step % pace.log_every == 0:
            self._progress.tell(self._log.flush(step))
            for line in self._log.noticed():
                self._progress.remark(f"step {step}: {line}")
        if number or due or last or step % pace.checkpoint_every == 0:
            unwritten = self._log.unwritten()  # raises before anything not finite is saved
            self._checkpoints.save(step, self._engine.fetch_state(placed), unwritten)
            moments.saved()
        if number or last:
            self._checkpoints.wait()  # as long as signals are only noted
            number = moments.signal()
        if number:
            raise Interrupted(number, f"saved after step {step} of {pace.steps}")
        return last


class Moments:
    """When a run saves beside its regular steps: at a signal, and when some time has passed.

    Several processes have to agree on both. They ask one another every `AGREE_SECONDS` or so, since
    asking takes as long as a short step does.
    """

    def __init__(self, signals: Noted, pace: Pace) -> None:
        self._signals, self._pace = signals, pace
        self._saved = self._asked = time.monotonic()
        self._last, self._next = 0, 0

    def look(self, step: int) -> tuple[int, bool]:
        """Returns the number of a signal that came (or 0), and whether a checkpoint is due."""
        now = time.monotonic()
        due = now - self._saved >= self._pace.checkpoint_seconds
        if jax.process_count() == 1:
            return self._signals.number, due
        if step < self._next and step < self._pace.steps:
            return 0, False
        seconds = (now - self._asked) / max(step - self._last, 1)
        number, due_somewhere, seconds = largest_of([self._signals.number, due, seconds])
        calls = int(AGREE_SECONDS / max(seconds, 1e-6) / self._pace.fused)
        self._last, self._asked = step, time.monotonic()
        self._next = step + self._pace.fused * max(1, calls)
        return int(number), bool(due_somewhere)

    def signal(self) -> int:
        """The number of a signal that came to any process, or 0."""
        return int(largest_of([self._signals.number])[0])

    def saved(self) -> None:
        self._saved = time.monotonic()


def _check_version(saved: Saved, identity: Identity | None, workdir: Path) -> None:
    """Refuses to continue a network that another version of the package began."""
    if identity is not None and saved.version != identity.version:
        raise CheckpointError(
            f"{workdir}: its {saved.step} steps were trained by unirep_jax {saved.version}, and "
            f"this is {identity.version}: continue with that version, or give another --workdir"
        )
