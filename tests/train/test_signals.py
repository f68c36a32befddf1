"""SIGINT, SIGTERM and SIGHUP: the first is noted while a run trains, all others end it at once."""

import signal
import subprocess
import sys
import time

import pytest

from unirep_jax.train.signals import NUMBERS, Interrupted, Noted

# Where Python's own handlers wait: the main thread is in a function that runs no Python.
BUSY = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 300_000_000)"
ENDING = "from unirep_jax.train import signals; signals.end_at_once()\n"
NOTING = "noted = signals.Noted().__enter__()\n"


def start(program: str, **options) -> subprocess.Popen:
    """A process of this program, which has come to where it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    assert process.stdout.readline() == "here\n"
    time.sleep(0.1)
    return process


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n.name)
def test_a_command_line_ends_with_one_line_whatever_it_is_busy_with(number):
    process = start(f"{ENDING}print('here', flush=True)\n{BUSY}", preexec_fn=heed)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert error == f"{number.name}: ended; the same command goes on from what is saved\n"


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n.name)
def test_while_it_trains_the_first_is_noted_and_the_second_ends_it(number):
    process = start(f"{ENDING}{NOTING}print('here', flush=True)\n{BUSY}", preexec_fn=heed)
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # of the same key: a shell passes it on to its jobs, too
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    first, second = error.splitlines()
    assert first == f"{number.name}: saving a checkpoint; a second one ends at once"
    assert second.startswith(f"{number.name}: ended")


def test_what_a_process_was_told_to_ignore_stays_ignored():
    """As nohup does, and shells that start a job in the background."""
    program = f"{ENDING}{NOTING}print('here', flush=True)\nimport sys; sys.stdin.read()\n"
    ignore = lambda: [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGHUP)]
    process = start(f"{program}print(noted.number)", preexec_fn=ignore, stdin=subprocess.PIPE)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert process.communicate(timeout=30) == ("0\n", "") and process.returncode == 0


def test_in_a_notebook_the_second_interrupts_as_ever(monkeypatch):
    """Nothing watches there: a cell must end, and the kernel must not."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Noted() as noted:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # at once: the same one
            assert noted.number == signal.SIGINT
            time.sleep(0.25)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    assert {number: signal.getsignal(number) for number in NUMBERS} == before


def test_the_exit_status_of_an_interruption_is_that_of_shells():
    codes = [Interrupted(number, "saved").code for number in NUMBERS]
    assert codes == [130, 143, 129]
    assert str(Interrupted(signal.SIGTERM, "saved")) == "SIGTERM: saved"
    assert issubclass(Interrupted, KeyboardInterrupt)  # no `except Exception` swallows it


def heed():
    """Undoes what a shell does to jobs in the background, where tests may run."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)
