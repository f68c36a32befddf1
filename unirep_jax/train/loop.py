"""The one training loop: resume, step, log, save, stop cleanly."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from unirep_jax.train.checkpoints import Checkpoints
from unirep_jax.train.logs import NonFiniteError, RunLog
from unirep_jax.train.parallel import Engine
from unirep_jax.train.processes import any_of, own_folder
from unirep_jax.train.step import TrainState


class Interrupted(Exception):
    """SIGTERM arrived; the state was saved after the step named in the message."""


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
    fused: int = 1,
) -> TrainState:
    """Trains to `steps`, from the last checkpoint in `workdir` where there is one.

    All processes call it together; the first one logs.

    Args:
      engine: the step and its devices.
      initial: makes the state before step 0.
      batches: from a step, the placed batches from there on; a function of (seed, step) alone.
      workdir: gets metrics.jsonl, environment.jsonl, tensorboard/ and checkpoints/.
      fused: steps that one call of the engine makes, a divisor of the other numbers of steps.

    Returns:
      The state after `steps` steps, on the host.

    Raises:
      NonFiniteError: naming step, term and the last good checkpoint.
      Interrupted: after SIGTERM.
    """
    with Checkpoints(workdir / "checkpoints") as checkpoints, _SigtermFlag() as sigterm:
        state = initial()
        start = checkpoints.latest_step() or 0
        if start:
            state = checkpoints.restore(state)
            print(f"continuing from step {start} of {steps}", flush=True)
        if start >= steps:
            return state
        log = RunLog(own_folder(workdir), start_step=start, steps=steps, batch_size=batch_size)
        placed = engine.place_state(state)
        del state  # the step donates its buffers
        try:
            ends = range(start + fused, steps + 1, fused)
            for step, batch in zip(ends, batches(start), strict=False):
                placed, metrics = engine.step(placed, batch)
                if engine.must_block:
                    jax.block_until_ready(placed)
                log.add(step, metrics, fused)
                logs = step % log_every == 0
                # Processes agree now and then: asking at every step would cost as much as one.
                stop = any_of(sigterm.raised) if logs or jax.process_count() == 1 else False
                save = stop or step == steps or step % checkpoint_every == 0
                if save or logs:
                    log.flush()  # raises before anything that is not finite is saved
                if save:
                    checkpoints.save(step, engine.fetch_state(placed))
                if stop and step < steps:
                    raise Interrupted(f"SIGTERM: saved after step {step} of {steps}")
        except NonFiniteError as error:
            last = checkpoints.latest_step()
            where = f"checkpoint of step {last}" if last else "start: no checkpoint was due yet"
            raise NonFiniteError(f"{error}; last good state: {where}") from None
        finally:
            log.close()
        return engine.fetch_state(placed)


class _SigtermFlag:
    """While entered, SIGTERM sets `raised` instead of ending the process."""

    raised = False

    def __enter__(self) -> "_SigtermFlag":
        try:
            self._previous = signal.signal(signal.SIGTERM, self._set)
        except ValueError:  # not the main thread: signals stay as they are
            self._previous = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _set(self, *_: object) -> None:
        self.raised = True
