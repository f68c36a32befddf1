"""Several processes, each with its own devices, that train one model together.

All run the same program on the same files. What is drawn, computed and evaluated is the same in
each; only the first writes into the folder of the run, which all have to see: the others keep what
they would have written to themselves. Checkpoints are written by all of them together.
"""

import contextlib
import faulthandler
import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

# Seconds without a sign of life after which a process counts as dead, and the others stop.
_HEARTBEAT = 20
# What launchers tell the processes they start, and how many that says there are.
_COUNTS: dict[str, Callable[[str], int]] = {
    "SLURM_STEP_NUM_TASKS": int,
    "OMPI_COMM_WORLD_SIZE": int,
    "TPU_WORKER_HOSTNAMES": lambda names: len(names.split(",")),
    "JAX_NUM_PROCESSES": int,
}


def detected() -> bool:
    """Whether the launcher's variables say that this is one of several processes.

    Raises:
      ValueError: one of them is no number.
    """
    for name, count in _COUNTS.items():
        value = os.environ.get(name) or "1"
        try:
            several = count(value) > 1
        except ValueError:
            raise ValueError(f"{name}={value!r} of the environment is no number") from None
        if several:
            return True
    return False


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Meets the other processes; before anything else uses a device.

    Args:
      coordinator: HOST:PORT at which process 0 listens; what is not given is asked of the
        environment (SLURM, Open MPI, Cloud TPU, Kubernetes).
      processes: how many there are.
      process: which of them this is, 0 … processes − 1.

    Raises:
      ValueError: something is not given and the environment does not tell, or the others did not
        come within five minutes.
    """
    try:
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=_HEARTBEAT
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the processes do not meet: {reason} (where no launcher tells, --coordinator, "
            "--processes and --process do)"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def own_folder(folder: Path) -> Path:
    """`folder` in the first process; in others, one that lives as long as they do."""
    return folder if is_first() else _scratch(folder)


@functools.cache
def _scratch(folder: Path) -> Path:
    # Removed when the object goes, with the process.
    _scratch_folders.append(tempfile.TemporaryDirectory(prefix=f"{folder.name}-"))
    return Path(_scratch_folders[-1].name)


_scratch_folders: list[tempfile.TemporaryDirectory] = []


def wait_for_all(where: str) -> None:
    """Returns when every process is here; `where` has to be the same in all of them."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process. All have to ask at the same point."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def largest_of(values: Sequence[float]) -> list[float]:
    """The largest of each value over all processes. All have to ask at the same point."""
    if jax.process_count() == 1:
        return [float(value) for value in values]
    gathered = multihost_utils.process_allgather(np.array(values, np.float32))
    return [float(value) for value in gathered.max(axis=0)]


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """Ends this process at once when something goes wrong in it, so that no other waits for it.

    An orderly exit would first wait for all other processes, which may be waiting for this one.
    Where JAX notices first that another died, it ends this one itself, saying so.
    """
    faulthandler.disable()  # the stacks of all threads would bury what JAX says
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.code, str):  # done, or all stopped together after a signal
            raise
        _end(f"process {jax.process_index()}: {stop.code}")
    except jax.errors.JaxRuntimeError as error:
        _end(
            f"error: process {jax.process_index()} lost contact with another, or failed itself: "
            f"{str(error).splitlines()[0]}\nwhen all have ended, run the same command again: it "
            "continues from the last checkpoint"
        )
    except BaseException:
        _end(traceback.format_exc())


def _end(message: str) -> None:
    try:
        print(message, file=sys.stderr, flush=True)
    finally:  # even where nobody reads what is printed
        os._exit(1)
