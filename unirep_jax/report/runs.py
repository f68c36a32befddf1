"""Folders of runs, read back: settings, log, measurements, figures; seeds of one kind together."""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from unirep_jax.evaluation.measurements import Measurement, read_measurements
from unirep_jax.evaluation.tables import unique
from unirep_jax.identity import flat
from unirep_jax.train.logs import read_log


class ReportError(ValueError):
    """A folder without a run, a file that cannot be read, or runs that do not go together."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run has written so far.

    config: dotted settings; log: lines of metrics.jsonl; measurements: empty until it is finished;
    environment: lines of environment.jsonl, one per start: packages and devices.
    """

    folder: Path
    config: dict[str, object]
    log: list[dict[str, float]]
    measurements: list[Measurement]
    figures: dict[str, Path]
    environment: list[dict[str, object]]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def finished(self) -> bool:
        return bool(self.measurements)

    @property
    def last_step(self) -> int:
        return self.log[-1]["step"] if self.log else 0


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, in its order."""

    title: str
    runs: tuple[Run, ...]

    @property
    def settings(self) -> dict[str, object]:
        """Dotted settings without the seed."""
        return {key: value for key, value in self.runs[0].config.items() if key != "seed"}


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """The runs in these folders of runs and sweeps, grouped by all settings but the seed.

    Raises:
      ReportError: a folder holds no run, a file is broken, or two folders hold the same run.
    """
    found = unique(path.resolve() for folder in folders for path in run_folders(folder))
    by_settings: dict[str, list[Run]] = {}
    for run in map(read_run, found):
        key = json.dumps({**run.config, "seed": None}, sort_keys=True)
        same = [other for other in by_settings.get(key, []) if other.seed == run.seed]
        if same:
            raise ReportError(
                f"{same[0].folder} and {run.folder} are the same run: settings and seed are equal"
            )
        by_settings.setdefault(key, []).append(run)
    groups = [sorted(runs, key=lambda run: run.seed) for runs in by_settings.values()]
    titles = _titles([runs[0].folder for runs in groups])
    return [Group(title, tuple(runs)) for title, runs in zip(titles, groups, strict=True)]


def run_folders(folder: Path) -> list[Path]:
    """The folder itself, or the runs of a sweep in it.

    Raises:
      ReportError: there is no run.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is not a folder")
    if (folder / "config.json").exists():
        return [folder]
    runs = [
        path.parent for path in (*folder.glob("*/config.json"), *folder.glob("*/*/config.json"))
    ]
    if not runs:
        raise ReportError(
            f"{folder} holds no run: config.json is neither in it nor in folders of a sweep below"
        )
    return sorted(runs)


def read_run(folder: Path) -> Run:
    """Everything a run has written; what it has not written yet is empty.

    Raises:
      ReportError: a file is not what a run writes.
    """
    return Run(
        folder=folder,
        config=_read(folder / "config.json", _config),
        log=_read(folder / "metrics.jsonl", read_log, absent=[]),
        measurements=_read(folder / "results.jsonl", read_measurements, absent=[]),
        figures={path.stem: path for path in sorted((folder / "figures").glob("*.png"))},
        environment=_read(folder / "environment.jsonl", _environment, absent=[]),
    )


def _read(path: Path, read: Callable, absent=None):
    if absent is not None and not path.exists():
        return absent
    try:
        return read(path)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(f"{path} is not what a run writes: {error}") from error


def _config(path: Path) -> dict[str, object]:
    config = flat(json.loads(path.read_text()))
    for key in ("experiment", "data.name", "method.name", "seed", "steps"):
        if key not in config:
            raise ValueError(f"it has no {key}")
    return config


def _environment(path: Path) -> list[dict[str, object]]:
    return [dict(json.loads(line)) for line in path.read_text().splitlines()]


def _titles(folders: Sequence[Path]) -> list[str]:
    """Short names that differ: of the variant, with that of its sweep, or the whole path."""
    variant = lambda folder: re.sub(r"-?seed\d+(-[0-9a-f]{8})?$", "", folder.name)
    short = [variant(folder) or folder.parent.name for folder in folders]
    within = [
        f"{(folder.parent if variant(folder) else folder.parent.parent).name}/{title}"
        for folder, title in zip(folders, short, strict=True)
    ]
    for titles in (short, within):
        if len(set(titles)) == len(titles):
            return titles
    return [str(folder) for folder in folders]
