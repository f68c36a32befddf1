"""Orbax checkpoints of the training state: asynchronous, atomic, the newest few kept."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """Checkpoints of one run. Use as a context: leaving it waits for the last write."""

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts writing `state` as of `step` steps done; returns before it is on disk."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def restore(self, template: Any) -> Any:
        """The latest state, in the structure, shapes and dtypes of `template`.

        Raises:
          ValueError: the checkpoint holds something else, naming where.
        """
        step = self.latest_step()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, TypeError) as error:
            directory = self._manager.directory / str(step)
            raise ValueError(f"{directory} does not hold this run's state: {error}") from error
