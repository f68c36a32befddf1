"""Bars of long commands: one line in place on a terminal, a line now and then in a log."""

import io
import time

import pytest

from unirep_jax import progress_bar as bar
from unirep_jax.progress_bar import Bar, counted, duration


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only pass when the test says so."""
    now = {"seconds": 50.0}
    monkeypatch.setattr(bar.time, "monotonic", lambda: now["seconds"])
    return now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_has_a_line_every_half_minute_and_one_at_the_end(clock):
    stream = io.StringIO()
    with Bar("embed audio", 1000, "examples", done=100, stream=stream) as shown:
        for _ in range(7):
            clock["seconds"] += 10
            shown.update(100)
    assert stream.getvalue().splitlines() == [
        "embed audio: 400 of 1000 examples, 10 a second, 60 s left",
        "embed audio: 700 of 1000 examples, 10 a second, 30 s left",
        "embed audio: 800 of 1000 examples, 10 a second, 20 s left",
    ]
    assert "\r" not in stream.getvalue()


def test_short_work_leaves_nothing_in_a_log(clock, capsys):
    assert list(counted("abc", "spell", 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_one_line_with_the_count_and_the_time_left():
    stream = Terminal()
    with Bar("flow", 4, "clips", done=1, stream=stream) as shown:
        for _ in range(3):
            time.sleep(0.001)
            shown.update()
    text = stream.getvalue()
    assert "flow" in text and "4/4" in text and "clips/s" in text
    assert text.count("\n") == 1 and text.endswith("\n")


def test_a_terminal_that_was_closed_ends_nothing():
    class Closed(Terminal):
        def write(self, text):
            raise OSError("Input/output error")

    with Bar("flow", 2, "clips", stream=Closed()) as shown:
        shown.update()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (90, "90 s"), (720, "12 min"), (12_000, "3 h 20 min")]
)
def test_durations_read_as_people_say_them(seconds, words):
    assert duration(seconds) == words
