"""Orbax checkpoints of the training state: asynchronous, atomic, the newest few kept.

They hold no trace of the devices and processes that wrote them, so others can go on from them. All
processes make the same calls.

Beside the arrays stands a note with the hash of each of them, with what the training depends on and
with what was not logged yet; the note has a hash of its own. What does not agree with its hashes,
or has none, is never restored.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from unirep_jax.identity import Identity, difference
from unirep_jax.terminal import say
from unirep_jax.train.processes import is_first, wait_for_all


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written: says which, why, and what to do."""


class Saved(NamedTuple):
    """A restored checkpoint.

    state: on the host; log: what `save` was given; version: of the package that wrote it.
    """

    step: int
    state: Any
    log: dict[str, Any]
    version: str


class Checkpoints:
    """Checkpoints of one run. Use as a context: leaving it waits for the last write.

    Args:
      directory: of these checkpoints alone.
      identity: what the training depends on. Checkpoints of another one are refused.
      keep: how many there are at most.
    """

    def __init__(self, directory: Path, *, identity: Identity | None = None, keep: int = 2) -> None:
        self._directory = directory.absolute()
        self._identity = identity
        self._unsynced: int | None = None
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        with self._errors(self._directory, "this has to be a folder that can be written"):
            self._manager = ocp.CheckpointManager(
                self._directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._settle()
            self._manager.close()

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, state: Any, log: dict[str, Any] | None = None) -> None:
        """Starts writing host arrays as of `step` steps done; returns before they are on disk.

        Args:
          log: anything that JSON can hold, given back with the state.

        Raises:
          CheckpointError: it, or the one before, cannot be written.
        """
        if step in self._manager.all_steps():
            return
        with self._writing():
            # The one before is on the disk from here on, so that the next may remove older ones.
            self._settle()
            _check_writable(self._directory)
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                custom_metadata=self._note(state, log or {}),
                force=True,
            )
            self._unsynced = step

    def wait(self) -> None:
        """Returns when everything that was saved is on the disk.

        Raises:
          CheckpointError: it cannot be written.
        """
        with self._writing():
            self._settle()

    def restore(self, template: Any) -> Saved | None:
        """The newest checkpoint that is whole, None where there is none at all.

        Newer ones that are damaged are renamed to <step>.damaged, with a line that says why.

        Args:
          template: has the structure, shapes and dtypes of the state; its values do not matter.

        Raises:
          CheckpointError: none is whole, or one is of another training.
        """
        host = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self._read(step, host)
            except CheckpointError:
                raise
            except Exception as error:  # damaged files raise of every kind
                damaged[step] = _reason(error)
                continue
            self._set_aside(damaged, step)
            return saved
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise CheckpointError(
                f"{self._directory / str(step)}: {reason}; no whole checkpoint is left: remove "
                f"{self._directory} to start again"
            )
        return None

    def _read(self, step: int, host: Any) -> Saved:
        hashes, log, written_by = self._checked_note(step)
        names = {jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(host)}
        for name in sorted(names ^ hashes.keys()):
            where = "not in this network" if name in hashes else "only in this network"
            raise CheckpointError(
                f"{self._directory / str(step)} is of another network: {name} is {where}; remove "
                f"{self._directory} to start again"
            )
        state = self._manager.restore(step, args=ocp.args.StandardRestore(host))
        jax.tree.map_with_path(_check_alike, state, host)
        found = _hashes(state)
        for name in hashes.keys() | found.keys():
            if found.get(name) != hashes.get(name):
                raise ValueError(f"{name} is not what was written")
        return Saved(step, state, log, written_by)

    def _note(self, state: Any, log: dict[str, Any]) -> dict[str, str]:
        identity = self._identity
        note = {
            "arrays": _hashes(state),
            "identity": identity and identity.facts(),
            "version": identity.version if identity else "",
            "log": log,
        }
        text = json.dumps(note)
        return {"note": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def _checked_note(self, step: int) -> tuple[dict[str, str], dict[str, Any], str]:
        """Hashes of the arrays, the log, and the version of the package."""
        found = self._manager.metadata(step).custom_metadata or {}
        text = found.get("note", "")
        if not text or hashlib.sha256(text.encode()).hexdigest() != found.get("sha256"):
            raise ValueError("the hashes of its arrays are not there, or not what was written")
        note = json.loads(text)
        if self._identity is not None:
            different = difference(note["identity"] or {}, self._identity.facts())
            if different:
                raise CheckpointError(
                    f"{self._directory / str(step)} is of another run: {different}; give another "
                    "--workdir"
                )
        return note["arrays"], note["log"], note["version"]

    def _set_aside(self, damaged: dict[int, str], whole: int) -> None:
        for step, reason in damaged.items():
            folder = self._directory / str(step)
            say(f"{folder}: {reason}; renamed to {step}.damaged, going on from step {whole}")
            if is_first():
                with self._writing():
                    aside = folder.with_name(f"{step}.damaged")
                    _remove(aside)
                    folder.rename(aside)
        if damaged:
            wait_for_all("checkpoints set aside")
            self._manager.reload()

    def _settle(self) -> None:
        """Returns when the last checkpoint is on the disk, names and all."""
        self._manager.wait_until_finished()
        if self._unsynced is not None and is_first():
            _sync(self._directory / str(self._unsynced))
        self._unsynced = None

    def _writing(self) -> contextlib.AbstractContextManager:
        return self._errors(self._directory, "the checkpoints before are whole")

    @contextlib.contextmanager
    def _errors(self, place: Path, remedy: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # full disks raise of every kind
            raise CheckpointError(f"{place}: {_reason(error)}; {remedy}") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _check_writable(directory: Path) -> None:
    """Raises OSError: Orbax that may not make a folder waits for it at the end of the process."""
    probe = directory / ".probe"
    probe.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # another process has just removed it
        probe.rmdir()


def _sync(folder: Path) -> None:
    """Files, then the folders that name them, reach the disk; Orbax leaves that to the system."""
    for root, _, files in os.walk(folder, topdown=False):
        for path in (*(Path(root, name) for name in files), Path(root)):
            _sync_one(path)
    _sync_one(folder.parent)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_alike(path: Any, found: np.ndarray, expected: np.ndarray) -> None:
    here, there = (f"{x.dtype} {x.shape}" for x in (expected, found))
    if here != there:
        raise ValueError(f"{jax.tree_util.keystr(path)} is {there}, not {here}")


def _hashes(state: Any) -> dict[str, str]:
    """Of the bytes, shape and dtype of every array, by its place in the tree."""
    hashes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.ascontiguousarray(leaf)
        digest = hashlib.sha256(f"{array.dtype} {np.shape(leaf)}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
        hashes[jax.tree_util.keystr(path)] = digest.hexdigest()
    return hashes
