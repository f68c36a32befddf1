"""Progress: one line that stays in place on a terminal, a line now and then elsewhere."""

import contextlib
import io
import os
import pty
import termios
import threading

import pytest

from unirep_jax.train import progress
from unirep_jax.train.progress import Progress, compiling


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only pass when the test says so."""
    now = {"seconds": 100.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["seconds"])
    return now


@contextlib.contextmanager
def terminal():
    """A stream on a terminal; a function that gives what it has shown, after the end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    shown = []

    def read():
        with contextlib.suppress(OSError):  # the other side was closed
            while text := os.read(ours, 4096):
                shown.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream:
        yield stream, lambda: b"".join(shown).decode()
    reader.join()
    os.close(ours)


def made(stream, start=0):
    return Progress(start=start, steps=200, batch_size=8, examples=64, stream=stream)


def test_a_log_has_a_line_every_half_minute_with_epoch_speed_and_time_left(clock):
    stream = io.StringIO()
    shown = made(stream, start=20)
    with compiling("the network", stream):
        clock["seconds"] += 75
    shown.begin(20)
    shown.tell(1.25)
    for step in range(21, 101):
        clock["seconds"] += 1
        shown.update(step)
    shown.close()
    assert stream.getvalue().splitlines() == [
        "compiling the network ...",
        "compiled the network in 75 s",
        "step 50 of 200, epoch 6.2, loss 1.250, 8 examples/s, 150 s left",
        "step 80 of 200, epoch 10.0, loss 1.250, 8 examples/s, 120 s left",
        "step 100 of 200, epoch 12.5, loss 1.250, 8 examples/s, 100 s left",
    ]
    assert "\r" not in stream.getvalue()


def test_a_terminal_has_one_line_and_says_that_it_compiles(monkeypatch):
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.01)
    with terminal() as (stream, shows):
        shown = made(stream)
        with compiling("the step", stream):
            progress.time.sleep(0.1)
        for step in range(1, 201):
            shown.tell(0.5)
            shown.update(step)
        shown.close()
    text = shows()
    assert "\rcompiling the step ... 0 s" in text and "compiled the step in 0 s\r\n" in text
    bar = text.partition("compiled")[2]
    assert "200/200" in bar and "epoch 25.0, loss 0.500" in bar and "examples/s" in bar
    assert bar.count("\n") == 2  # after the line before, and after the bar


def test_a_terminal_that_was_closed_ends_nothing():
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w")
    os.close(ours)
    stream.isatty = lambda: True  # as it was when the run began
    shown = made(stream)
    with compiling("the step", stream):
        pass
    for step in range(1, 5):
        shown.update(step)
    shown.close()
    with pytest.raises(OSError, match="Input/output"):  # it was closed indeed
        stream.close()


def test_other_processes_than_the_first_print_nothing(capfd):
    shown = made(None)
    with compiling("the step", None):
        shown.update(1)
    shown.close()
    assert capfd.readouterr() == ("", "")
