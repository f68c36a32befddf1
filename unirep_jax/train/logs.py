"""What a run writes while it trains: metrics, TensorBoard events, its environment, one bar."""

import json
import math
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import jax
import tqdm
from tensorboardX import SummaryWriter

from unirep_jax.data.mapped import replace_file
from unirep_jax.train.processes import is_first


class NonFiniteError(RuntimeError):
    """A loss, a term of it or the gradient stopped being a finite number."""


class RunLog:
    """Collects metrics of steps, writes their means, notices the first value that is not finite."""

    def __init__(self, workdir: Path, *, start_step: int, steps: int, batch_size: int) -> None:
        _write_environment(workdir / "environment.jsonl", start_step)
        self._path = workdir / "metrics.jsonl"
        _drop_lines_after(self._path, start_step)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step)
        self._bar = tqdm.tqdm(
            total=steps, initial=start_step, unit="step", desc="train", mininterval=0.5,
            smoothing=0.1, disable=not is_first(),
        )  # fmt: skip
        self._batch_size = batch_size
        self._pending: list[tuple[int, dict]] = []

    def add(self, step: int, metrics: dict, count: int = 1) -> None:
        """Keeps the metrics of a step, or the means of `count` of them, on the device; nothing
        waits for them."""
        self._pending.append((step, metrics))
        self._bar.update(count)

    def flush(self) -> None:
        """Writes the mean of the pending metrics under the last of their steps.

        Raises:
          NonFiniteError: a value is not finite, naming the first step and the terms at fault.
        """
        if not self._pending:
            return
        rows = []
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
            rows.append(row)
        step = self._pending[-1][0]
        self._pending.clear()
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        self._file.write(json.dumps({"step": step, **means}) + "\n")
        self._file.flush()
        for name, value in means.items():
            self._board.add_scalar(name, value, step)
        rate = self._bar.format_dict["rate"] or 0
        self._bar.set_postfix_str(
            f"loss {means['loss']:.3f}, {rate * self._batch_size:.0f} examples/s"
        )

    def close(self) -> None:
        self._file.close()
        self._board.close()
        self._bar.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; those that a process that was killed has cut short are not."""
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append({k: v for k, v in row.items() if type(v) in (int, float)})
    return rows


def _write_environment(path: Path, start_step: int) -> None:
    """One more line: from which step on the run trains with which packages, on which devices."""
    found = {"step": start_step, "Python": platform.python_version()}
    found |= {name: version(name) for name in ("jax", "flax", "optax")}
    devices = Counter(device.device_kind for device in jax.devices())
    found["devices"] = ", ".join(f"{count} × {kind}" for kind, count in devices.items())
    with path.open("a") as stream:
        stream.write(json.dumps(found) + "\n")


def _drop_lines_after(path: Path, step: int) -> None:
    """Forgets what was logged after the checkpoint that a run resumes from."""
    if not path.exists():
        return
    kept = "".join(json.dumps(row) + "\n" for row in read_log(path) if row["step"] <= step)
    replace_file(path, lambda stream: stream.write(kept.encode()))
