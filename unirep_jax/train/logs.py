"""What a run writes while it trains: metrics, TensorBoard events, its environment."""

import contextlib
import json
import math
import os
import platform
import stat
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter

from unirep_jax import __version__
from unirep_jax.data.mapped import replace_file
from unirep_jax.terminal import say
from unirep_jax.train.tracking import Tracking
from unirep_jax.train.watch import Watch


class NonFiniteError(RuntimeError):
    """A loss, a term of it or the gradient stopped being a finite number."""


class RunLog:
    """Collects metrics of steps, writes their means, notices the first value that is not finite.

    Args:
      workdir: gets metrics.jsonl, environment.jsonl and tensorboard/.
      start_step: from which on the run trains; what was logged after it is forgotten.
      unwritten: of a log that ended there, whose next line is then that of an unbroken run.
      watch: reads every line; nobody by default.
      tracked: where the same means go, too.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        start_step: int,
        unwritten: dict[str, Any] | None = None,
        watch: Watch | None = None,
        tracked: Tracking | None = None,
    ) -> None:
        _write_environment(workdir / "environment.jsonl", start_step)
        self._path = workdir / "metrics.jsonl"
        _keep_lines_until(self._path, start_step)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step)
        self._tracker = tracked.open() if tracked else None
        self._pending: list[tuple[int, dict]] = []
        self._watch, self._noticed = watch, []
        if watch is not None:  # what was said before the run was interrupted is not said again
            for row in read_log(self._path):
                watch.look(int(row["step"]), {k: v for k, v in row.items() if k != "step"})
        unwritten = unwritten or {"count": 0, "totals": {}}
        self._count, self._totals = unwritten["count"], dict(unwritten["totals"])

    def add(self, step: int, metrics: dict) -> None:
        """Keeps the metrics of a step, or their means over several, on the device; nothing waits
        for them."""
        self._pending.append((step, metrics))

    def unwritten(self) -> dict[str, Any]:
        """Sums since the last line, which a resumed log continues from.

        Raises:
          NonFiniteError: a value is not finite, naming the first step and the terms at fault.
        """
        for step, metrics in self._pending:
            row = {name: float(value) for name, value in metrics.items()}
            broken = [name for name, value in row.items() if not math.isfinite(value)]
            if broken:
                self._pending.clear()
                terms = [name for name in broken if name not in ("loss", "gradient_norm")]
                raise NonFiniteError(
                    f"step {step}: {', '.join(terms or broken)} "
                    f"{'is' if len(terms or broken) == 1 else 'are'} not finite"
                )
            for name, value in row.items():
                self._totals[name] = self._totals.get(name, 0.0) + value
            self._count += 1
        self._pending.clear()
        return {"count": self._count, "totals": dict(self._totals)}

    def flush(self, step: int) -> float:
        """Writes the means since the line before under this step; returns that of the loss.

        Raises:
          NonFiniteError: as `unwritten`.
        """
        count, totals = self.unwritten().values()
        means = {name: total / count for name, total in totals.items()}
        self._count, self._totals = 0, {}
        self._file.write(json.dumps({"step": step, **means}) + "\n")
        self._file.flush()
        for name, value in means.items():
            self._board.add_scalar(name, value, step)
        self._noticed = self._watch.look(step, means) if self._watch else []
        if self._tracker is not None:
            self._tracker.log(step, means)
        return means["loss"]

    def noticed(self) -> list[str]:
        """What the last line showed for the first time, in words."""
        return self._noticed

    def close(self) -> None:
        self._file.close()
        self._board.close()
        if self._tracker is not None:
            self._tracker.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """Reads the lines of metrics.jsonl; skips what is no such line.

    A process that was killed may have cut one short; where there is no file, there are none.
    """
    rows: list[dict[str, float]] = []
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            numbers = {k: v for k, v in row.items() if _is_finite(v)}
            if len(numbers) > 1 and 0 < row["step"] < 2**31:
                rows.append(numbers)
    return rows


def _text(path: Path) -> str:
    """Of a regular file; "" for what is none: a folder, a pipe that nobody writes to, a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return stream.read().decode(errors="replace") if regular else ""


def _is_finite(value: object) -> bool:
    with contextlib.suppress(OverflowError):
        return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
    return False


def _write_environment(path: Path, start_step: int) -> None:
    """One more line: from which step on the run trains with which packages, on which devices."""
    found = {"step": start_step, "unirep_jax": __version__, "Python": platform.python_version()}
    found |= {name: version(name) for name in ("jax", "flax", "optax")}
    devices = Counter(device.device_kind for device in jax.devices())
    found["devices"] = ", ".join(f"{count} × {kind}" for kind, count in devices.items())
    _make_room(path)
    with path.open("a") as stream:
        stream.write(json.dumps(found) + "\n")


def _keep_lines_until(path: Path, step: int) -> None:
    """Forgets what was logged after the checkpoint that a run goes on from."""
    _make_room(path)
    if path.exists():
        kept = "".join(json.dumps(row) + "\n" for row in read_log(path) if row["step"] <= step)
        replace_file(path, lambda stream: stream.write(kept.encode()))


def _make_room(path: Path) -> None:
    """Renames a folder or link that stands where the file has to be."""
    if (path.exists() or path.is_symlink()) and not path.is_file():
        aside = path.with_name(f"{path.name}.set-aside-{os.getpid()}")
        path.rename(aside)
        say(f"{path} is not a file; renamed to {aside.name}")
