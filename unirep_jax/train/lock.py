"""The folder of a run belongs to one process, or to those that train together, while it runs."""

import contextlib
import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from unirep_jax.terminal import say
from unirep_jax.train.processes import any_of, is_first

# What file systems answer that know no locks, for instance buckets that are mounted.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}")  # of `data.mapped.replace_file`, killed as it wrote
_owned: set[Path] = set()


class FolderInUseError(OSError):
    """Another process works in the folder of a run."""


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """While entered, no other process gets this folder; it is made where it is not there.

    The system frees the lock when the process ends, however it ends, so none is ever stale.
    Processes that train together all call this; the first one holds the lock for them. Files that
    a killed process left half written are removed.

    Raises:
      FolderInUseError: another process has it; says which, on which host.
    """
    folder = folder.resolve()
    if folder in _owned:  # what is called within may ask for itself, too
        yield
        return
    with contextlib.ExitStack() as stack:
        failure = None
        if is_first():
            try:
                stack.enter_context(_locked(folder))
            except OSError as error:
                failure = error
        if any_of(failure is not None):  # so that no process waits for one that was refused
            raise failure or FolderInUseError(f"{folder}: the first process did not get it")
        _owned.add(folder)
        stack.callback(_owned.remove, folder)
        yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    try:
        descriptor = _acquire(lock)
        try:
            _remove_leftovers(folder)
            yield
        finally:
            with contextlib.suppress(OSError):  # the folder was removed, or cannot be written
                lock.unlink()  # before it is free, so that nobody holds a removed file
            os.close(descriptor)
    finally:
        for place in made:  # a run that was refused leaves nothing behind
            with contextlib.suppress(OSError):  # it is not empty
                place.rmdir()


def _acquire(lock: Path) -> int:
    """The open file with the lock on it."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise FolderInUseError(
                f"{lock.parent} is in use by {owner or 'another process'}; wait until it ends, or "
                "give another --workdir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            say(f"{lock.parent} is on a disk without locks: start no second run in it")
        # The one before may have removed the file after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(lock.stat(), os.fstat(descriptor)):
                break
        os.close(descriptor)
    with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return descriptor


def _remove_leftovers(folder: Path) -> None:
    for place in (folder, folder / "figures"):
        if place.is_dir():
            for file in place.iterdir():
                if _LEFTOVER.fullmatch(file.name) and file.is_file() and not file.is_symlink():
                    file.unlink()
