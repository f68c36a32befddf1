"""Flags of the command lines that several processes run together, and how these meet."""

import contextlib
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Train together with the other processes that the cluster's launcher has started. By itself "
    "where SLURM, Open MPI or Cloud TPU say that there are others.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where no launcher tells."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")


def _check(coordinator: str | None, count: int | None, process: int | None) -> None:
    """Refuses what cannot be; what is not given, a launcher may tell.

    Raises:
      ValueError: naming the flag.
    """
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError(f"--coordinator={coordinator} is not HOST:PORT, PORT 1 to 65535")
    if count is not None and count < 1:
        raise ValueError(f"--processes={count} is not 1 or more")
    if process is not None and not 0 <= process < (math.inf if count is None else count):
        among = "" if count is None else f" of --processes={count}: 0 to {count - 1}"
        raise ValueError(f"--process={process} is none{among}")


def together(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    """`main`, run by all processes, where there are several: they meet, and the first one prints.

    An error in one ends it at once; the others notice and end too.
    """

    def run(arguments: list[str]) -> None:
        # After the flags are read, so that --help and a mistyped flag answer at once.
        from unirep_jax.train import processes

        explicit = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        asked = _DISTRIBUTED.value or any(value is not None for value in explicit)
        try:
            _check(*explicit)
            several = asked or processes.detected()
            if several:
                processes.join(*explicit)
        except ValueError as error:
            sys.exit(f"error: {error}")
        if not several:
            return main(arguments)
        with processes.failing_together(), contextlib.ExitStack() as stack:
            if not processes.is_first():
                nowhere = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            return main(arguments)

    return run
