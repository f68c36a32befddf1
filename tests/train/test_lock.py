"""The folder of a run has one owner, whose end frees it."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from unirep_jax.train import lock
from unirep_jax.train.lock import FolderInUseError, owned

OWNER = """
import sys, time
from pathlib import Path
from unirep_jax.train.lock import owned
with owned(Path(sys.argv[1])):
    print("owned", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that owns tmp_path/run."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "run")],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == "owned\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_with_one_line_that_names_the_first(owner, tmp_path):
    place = re.escape(str(tmp_path / "run"))
    who = f"process {owner.pid} on {socket.gethostname()}"
    with (
        pytest.raises(FolderInUseError, match=f"^{place} is in use by {who}; .*--workdir$"),
        owned(tmp_path / "run"),
    ):
        pass
    assert owner.poll() is None and (tmp_path / "run" / "lock").exists()


@pytest.mark.parametrize("end", ["in order", "by SIGKILL"])
def test_a_folder_is_free_when_its_owner_has_ended(owner, tmp_path, end):
    if end == "by SIGKILL":
        owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert (tmp_path / "run" / "lock").exists() == (end == "by SIGKILL")
    with owned(tmp_path / "run"):
        assert f"process {os.getpid()} on " in (tmp_path / "run" / "lock").read_text()


def test_a_lock_that_was_removed_and_made_again_meanwhile_is_not_taken_for_it(
    tmp_path, monkeypatch
):
    """Between opening the file and locking it, its owner may remove it."""
    flock, calls = lock.fcntl.flock, []

    def late(descriptor, how):
        if not calls:
            (tmp_path / "lock").unlink()
        calls.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with owned(tmp_path):
        assert len(calls) == 2 and (tmp_path / "lock").exists()


def test_within_one_process_the_folder_is_owned_once(tmp_path):
    with owned(tmp_path), owned(tmp_path / "."):
        pass
    assert [*tmp_path.iterdir()] == []


def test_what_was_made_for_the_lock_goes_with_it_and_nothing_else_does(tmp_path):
    with owned(tmp_path / "runs" / "empty"):
        pass
    assert [*tmp_path.iterdir()] == []
    with owned(tmp_path / "runs" / "full"):
        (tmp_path / "runs" / "full" / "config.json").touch()
    assert [p.name for p in (tmp_path / "runs" / "full").iterdir()] == ["config.json"]


def test_files_that_a_killed_process_left_half_written_are_removed(tmp_path):
    (tmp_path / "figures").mkdir()
    kept = [tmp_path / ".hidden", tmp_path / "results.jsonl", tmp_path / "x.0123abcd"]
    half = [tmp_path / ".results.jsonl.0123abcd", tmp_path / "figures" / ".a.png.89abcdef"]
    for file in (*kept, *half):
        file.write_text("{")
    with owned(tmp_path):
        assert not any(file.exists() for file in half)
    assert all(file.exists() for file in kept)


def test_a_disk_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(lock.fcntl, "flock", unknown)
    with owned(tmp_path):
        pass
    assert "on a disk without locks: start no second run in it" in capsys.readouterr().out
