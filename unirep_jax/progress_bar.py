"""How far some work is: a line that stays in place on a terminal, a line now and then in a log."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TextIO, TypeVar

LINE_SECONDS = 30.0  # between two lines of a log
Item = TypeVar("Item")


class Bar:
    """What is done of a whole, how many a second, and the time that is left.

    Work that ends before the first line of a log is due leaves none.

    Args:
      what: the work, in a word or two.
      total: of all of it.
      unit: what is counted, in the plural.
      done: at the start, by an earlier call.
      stream: by default stderr.
    """

    def __init__(
        self, what: str, total: int, unit: str, *, done: int = 0, stream: TextIO | None = None
    ) -> None:
        self._what, self._total, self._unit, self._done = what, total, unit, done
        self._stream = sys.stderr if stream is None else stream
        self._marked, self._lines = (time.monotonic(), done), 0
        self._bar = None
        if self._stream.isatty():
            import tqdm  # of the extras `train` and `media`

            with contextlib.suppress(OSError):  # the terminal was closed
                self._bar = tqdm.tqdm(
                    desc=what,
                    total=total,
                    initial=done,
                    unit=f" {unit}",
                    mininterval=0.2,
                    miniters=1,
                    dynamic_ncols=True,
                    file=self._stream,
                )

    def update(self, count: int = 1) -> None:
        """So many more are done; prints when it is time."""
        self._done += count
        with contextlib.suppress(OSError):
            if self._bar is not None:
                self._bar.update(count)
            elif time.monotonic() - self._marked[0] >= LINE_SECONDS:
                self._print()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._bar is not None:
                self._bar.close()
            elif self._lines and self._marked[1] != self._done:
                self._print()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _print(self) -> None:
        now, (then, before) = time.monotonic(), self._marked
        self._marked, self._lines = (now, self._done), self._lines + 1
        rate = (self._done - before) / max(now - then, 1e-9)
        left = f", {duration((self._total - self._done) / rate)} left" if rate else ""
        count = f"{self._done} of {self._total} {self._unit}"
        line = f"{self._what}: {count}, {rate:.{0 if rate >= 10 else 1}f} a second{left}"
        print(line, file=self._stream, flush=True)


def counted(
    items: Iterable[Item], what: str, total: int, unit: str, *, done: int = 0
) -> Iterator[Item]:
    """The items, each counted once whoever asked for it has gone on to the next."""
    with Bar(what, total, unit, done=done) as bar:
        for item in items:
            yield item
            bar.update()


def duration(seconds: float) -> str:
    """In words: 90 s, 12 min, 3 h 20 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes >= 10 else f"{60 * minutes + seconds} s"
