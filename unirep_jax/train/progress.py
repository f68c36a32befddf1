"""How far a training is: a line that stays in place on a terminal, one now and then in a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import tqdm

from unirep_jax.progress_bar import LINE_SECONDS, duration

TICK_SECONDS = 1.0  # between two updates while a program is compiled


class Progress:
    """Step, epoch, loss, examples a second and the time that is left.

    Args:
      start: steps that are done already.
      steps: all of them.
      batch_size: examples of a step.
      examples: of an epoch; 0 where there are none to speak of.
      stream: where it is printed; by default stderr. None for nowhere.
    """

    def __init__(
        self, *, start: int, steps: int, batch_size: int, examples: int, stream: TextIO | None
    ) -> None:
        self._steps, self._batch_size, self._examples = steps, batch_size, examples
        self._stream, self._step, self._loss = stream, start, ""
        self._marked = (time.monotonic(), start)
        self._bar: tqdm.tqdm | None = None

    def begin(self, step: int) -> None:
        """To be called where a program has been compiled: speed is measured from here on."""
        self._step, self._marked = step, (time.monotonic(), step)

    def update(self, step: int) -> None:
        """To be called after every step; prints when it is time."""
        self._step = step
        if self._stream is None:
            return
        if self._stream.isatty():
            self._draw()
        elif time.monotonic() - self._marked[0] >= LINE_SECONDS:
            _print(self._line(), self._stream)

    def tell(self, loss: float) -> None:
        """Sets the loss that is shown from now on."""
        self._loss = f"loss {loss:.3f}"

    def remark(self, line: str) -> None:
        """A line of its own, above the one that stays in place."""
        if self._stream is not None:
            if self._bar is not None:
                self._bar.clear()
            _print(line, self._stream)

    def close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()
        elif self._marked[1] != self._step:
            _print(self._line(), self._stream)

    def _line(self) -> str:
        now, (then, before) = time.monotonic(), self._marked
        self._marked = (now, self._step)
        rate = (self._step - before) / max(now - then, 1e-9)
        left = f"{duration((self._steps - self._step) / rate)} left" if rate else ""
        speed = f"{rate * self._batch_size:.0f} examples/s"
        parts = [f"step {self._step} of {self._steps}", self._epoch(), self._loss, speed, left]
        return ", ".join(part for part in parts if part)

    def _epoch(self) -> str:
        if not self._examples:
            return ""
        return f"epoch {self._step * self._batch_size / self._examples:.1f}"

    def _draw(self) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            if self._bar is None:
                self._bar = tqdm.tqdm(
                    total=self._steps,
                    initial=self._step,
                    unit="step",
                    desc="train",
                    mininterval=0.5,
                    smoothing=0.1,
                    file=self._stream,
                    dynamic_ncols=True,
                )
            self._bar.update(self._step - self._bar.n)
            rate = self._bar.format_dict["rate"] or 0
            speed = f"{rate * self._batch_size:.0f} examples/s"
            parts = [self._epoch(), self._loss, speed]
            self._bar.set_postfix_str(", ".join(p for p in parts if p), refresh=False)


@contextlib.contextmanager
def compiling(what: str, stream: TextIO | None) -> Iterator[None]:
    """Says that a program is compiled, which may take minutes, and in the end how long it took."""
    begun, done = time.monotonic(), threading.Event()
    ticks = threading.Thread(target=_tick, args=(what, stream, begun, done), daemon=True)
    if stream is not None and stream.isatty():
        ticks.start()
    else:
        _print(f"compiling {what} ...", stream)
    try:
        yield
    finally:
        done.set()
        if ticks.is_alive():
            ticks.join()
    _print(f"compiled {what} in {time.monotonic() - begun:.0f} s", stream)


def _print(line: str, stream: TextIO | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError):  # the terminal was closed
            print(line, file=stream, flush=True)


def _tick(what: str, stream: TextIO, begun: float, done: threading.Event) -> None:
    """Shows on a terminal how long it has taken so far."""
    with contextlib.suppress(OSError):
        while not done.wait(TICK_SECONDS):
            stream.write(f"\rcompiling {what} ... {time.monotonic() - begun:.0f} s")
            stream.flush()
        stream.write("\r\x1b[K")


def progress_stream(first: bool) -> TextIO | None:
    """Where progress is printed: by the first process alone."""
    return sys.stderr if first else None
