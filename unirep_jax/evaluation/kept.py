"""Finished parts of an evaluation, kept until all of it is, so that one that was ended goes on."""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.progress_bar import duration
from unirep_jax.train.processes import is_first
from unirep_jax.train.progress import progress_stream


class KeptMeasurements:
    """Measurements by the name of their part, in one file.

    Args:
      path: of the file. What it holds of other facts, or damaged, is measured again.
      of: all that the measurements depend on: settings, data, trained steps.
    """

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        self._path = path
        self._of = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
        self._parts = self._read()

    def once(self, part: str, measure: Callable[[], Iterable[Measurement]]) -> list[Measurement]:
        """The measurements of a part: those that are kept, or else those that `measure` makes.

        Floats are kept exactly, so results are the same bit for bit. Parts are kept as a whole: a
        figure that `measure` draws besides is drawn once.
        """
        if part not in self._parts:
            begun = time.monotonic()
            self._parts[part] = list(measure())
            self._write()
            if stream := progress_stream(is_first()):
                with contextlib.suppress(OSError):  # the terminal was closed
                    took = duration(time.monotonic() - begun)
                    print(f"evaluated {part} in {took}", file=stream, flush=True)
        return list(self._parts[part])

    def remove(self) -> None:
        """To be called once the results are written."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, list[Measurement]]:
        try:
            head, _, body = self._path.read_text("utf-8").partition("\n")
            if head != _head(self._of, body):
                return {}
            parts = json.loads(body)
            return {name: [Measurement(**m) for m in rows] for name, rows in parts.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def _write(self) -> None:
        body = json.dumps(
            {name: [dataclasses.asdict(m) for m in rows] for name, rows in self._parts.items()}
        )
        text = f"{_head(self._of, body)}\n{body}"
        replace_file(self._path, lambda stream: stream.write(text.encode()))


def _head(of: str, body: str) -> str:
    return hashlib.sha256(f"{of}\n{body}".encode()).hexdigest()
