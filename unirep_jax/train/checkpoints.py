"""Orbax checkpoints of the training state: asynchronous, atomic, the newest few kept.

They hold no trace of the devices and processes that wrote them, so others can go on from them. All
processes make the same calls.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written: says which, why, and what to do."""


class Checkpoints:
    """Checkpoints of one run. Use as a context: leaving it waits for the last write."""

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self._directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        with self._errors(self._directory, "this has to be a folder that can be written"):
            self._manager = ocp.CheckpointManager(
                self._directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._manager.close()

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts writing host arrays as of `step` steps done; returns before they are on disk.

        Raises:
          CheckpointError: it, or the one before, cannot be written.
        """
        if step not in self._manager.all_steps():
            hashes = {"sha256": _hashes(state)}
            with self._writing():
                # Orbax that may not make a folder waits for it at the end of the process.
                tempfile.TemporaryDirectory(prefix=".", dir=self._directory).cleanup()
                self._manager.save(
                    step, args=ocp.args.StandardSave(state), custom_metadata=hashes, force=True
                )

    def restore(self, template: Any) -> Any:
        """The latest state on the host, in the structure, shapes and dtypes of `template`.

        Raises:
          CheckpointError: the checkpoint is damaged or holds something else, naming where.
        """
        step = self.latest_step()
        folder = self._directory / str(step)
        before = [other for other in self._manager.all_steps() if other < step]
        start = f"step {max(before)}" if before else "the start"
        with self._errors(folder, f"remove this folder to continue from {start}"):
            known = self._manager.metadata(step).custom_metadata.get("sha256", {})
            host = jax.tree.map(np.asarray, template)
            state = self._manager.restore(step, args=ocp.args.StandardRestore(host))
            jax.tree.map_with_path(_check_alike, state, host)
            found = _hashes(state)
            for name, digest in known.items():
                if found.get(name) != digest:
                    raise ValueError(f"{name} is not what was written")
        return state

    def _writing(self) -> contextlib.AbstractContextManager:
        return self._errors(self._directory, "earlier checkpoints are whole")

    @contextlib.contextmanager
    def _errors(self, place: Path, remedy: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # damaged files and full disks raise of every kind
            reason = (str(error).splitlines() or [""])[0]
            raise CheckpointError(f"{place}: {reason or type(error).__name__}; {remedy}") from error


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
