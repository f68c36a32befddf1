"""SIGINT, SIGTERM and SIGHUP: a run keeps what it has, and its exit status says which one came.

A command line calls `end_at_once` first. From then on a signal ends the process with one line,
whatever it is busy with: nothing is lost, since everything that a run writes is replaced whole.
Long work is the exception: while `Noted` is entered, the first signal is only noted.

What the process was told to ignore (by `nohup`, or as a background job of a shell) stays ignored.
"""

import contextlib
import os
import signal
import threading
import time
from types import FrameType

NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
# Seconds within which a second signal is the first one again: terminals, shells and wrappers each
# pass it on to the same process.
_ECHO = 0.2


class Interrupted(KeyboardInterrupt):
    """A signal stopped the work, after its state was saved. `code` is the exit status."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {what}")
        self.code = 128 + number


class Noted:
    """While entered, the first signal is noted; the next one acts as it would have before.

    number: of the signal that came; 0 as long as none has.

    Args:
      answer: what is done then, in words.
    """

    def __init__(self, answer: str = "saving a checkpoint") -> None:
        self.number = 0
        self._answer = answer
        self._since = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Noted":
        # Again even where a thread watches: libraries install handlers of their own meanwhile.
        handler = _leave_to_the_thread if _watching else self._handle
        with contextlib.suppress(ValueError):  # not the main thread: signals stay as they are
            for number in _heeded():
                self._previous[number] = signal.signal(number, handler)
        _noting.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _noting.remove(self)
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)  # type: ignore[arg-type]

    def take(self, number: int) -> bool:
        """Whether the signal is noted here; False for a second one."""
        now = time.monotonic()
        if self.number:
            return now - self._since < _ECHO
        self._since, self.number = now, number
        _print(f"{signal.Signals(number).name}: {self._answer}; a second one ends at once")
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.take(number):
            return
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


_noting: list[Noted] = []  # entered, the innermost last
_watching: list[threading.Thread] = []


def end_at_once() -> None:
    """Lets signals end this process with one line and the status 128 + their number.

    A thread does it, not a handler of Python's: those wait for the main thread, which may be in the
    compiler for minutes. To be called once, by the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in _heeded():
        signal.signal(number, _leave_to_the_thread)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _watching.append(threading.Thread(target=_watch, args=(reader,), daemon=True))
    _watching[-1].start()


def _watch(reader: int) -> None:
    while True:
        for number in os.read(reader, 64):
            noted = _noting[-1:]
            if number in NUMBERS and not (noted and noted[0].take(number)):
                name = signal.Signals(number).name
                _print(f"{name}: ended; the same command goes on from what is saved")
                os._exit(128 + number)


def _heeded() -> list[int]:
    return [number for number in NUMBERS if signal.getsignal(number) != signal.SIG_IGN]


def _leave_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Has to be there: what has no handler of Python's does not reach the thread."""


def _print(line: str) -> None:
    """Past Python's streams, whose locks another thread may hold; below a bar or ^C."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        start = "\n" if os.isatty(2) else ""
        os.write(2, f"{start}{line}\n".encode())
