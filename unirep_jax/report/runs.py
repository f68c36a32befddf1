"""Folders of runs, read back: settings, log, measurements, figures; seeds of one kind together."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unirep_jax.data.files import user_path
from unirep_jax.data.safe_text import safe_text
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import unique
from unirep_jax.report.run_files import (
    CONFIG,
    ReportError,
    find_figures,
    read_config,
    read_environment,
    read_log,
    read_results,
)
from unirep_jax.report.series import Point, read_series

_MOST_RUNS = 100_000


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run has written so far.

    config: dotted settings; measurements: empty until it is finished; environment: lines of
    environment.jsonl, one per start: packages and devices. The log stays on disk.
    """

    folder: Path
    config: dict[str, Any]
    measurements: list[Measurement]
    figures: dict[str, Path]
    environment: list[dict[str, str]]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def finished(self) -> bool:
        return bool(self.measurements)

    @property
    def last_step(self) -> int:
        return max((step for step, _ in read_log(self.folder)), default=0)

    def series(self) -> dict[str, list[Point]]:
        """What was logged while training, by quantity."""
        return read_series(read_log(self.folder))


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
    folders = [user_path(folder) for folder in folders]
    found = unique(path.resolve() for folder in folders for path in run_folders(folder))
    if len(found) > _MOST_RUNS:
        raise ReportError(f"{len(found)} runs, more than {_MOST_RUNS}")
    by_settings: dict[str, dict[int, Run]] = {}
    for run in map(read_run, found):
        # Where a run was tracked makes it no other run.
        settings = {k: v for k, v in run.config.items() if not k.startswith("log.")}
        key = json.dumps({**settings, "seed": None}, sort_keys=True)
        same = by_settings.setdefault(key, {}).setdefault(run.seed, run)
        if same is not run:
            raise ReportError(
                f"{same.folder} and {run.folder} are the same run: settings and seed are equal"
            )
    groups = [[runs[seed] for seed in sorted(runs)] for runs in by_settings.values()]
    titles = _titles([runs[0].folder for runs in groups])
    return [Group(title, tuple(runs)) for title, runs in zip(titles, groups, strict=True)]


def run_folders(folder: Path) -> list[Path]:
    """The folder itself, or the runs of a sweep in it.

    Raises:
      ReportError: there is no run.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is not a folder")
    if (folder / CONFIG).is_symlink() or (folder / CONFIG).exists():
        return [folder]
    runs = [path.parent for path in (*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}"))]
    if not runs:
        raise ReportError(
            f"{folder} holds no run: config.json is neither in it nor in folders of a sweep below"
        )
    outside = [run for run in runs if not run.resolve().is_relative_to(folder.resolve())]
    if outside:
        raise ReportError(f"{outside[0]} is a link out of {folder}: name where it leads instead")
    return sorted(runs)


def read_run(folder: Path) -> Run:
    """Everything a run has written; what it has not written yet is empty.

    Raises:
      ReportError: a file is not what a run writes.
    """
    return Run(
        folder=folder,
        config=read_config(folder),
        measurements=read_results(folder),
        figures=find_figures(folder),
        environment=read_environment(folder),
    )


def _titles(folders: Sequence[Path]) -> list[str]:
    """Short names that differ: of the variant, with that of its sweep, or the whole path."""
    variant = lambda folder: re.sub(r"-?seed\d+(-[0-9a-f]{8})?$", "", folder.name)
    short = [safe_text(variant(folder) or folder.parent.name) for folder in folders]
    parents = [folder.parent if variant(folder) else folder.parent.parent for folder in folders]
    within = [
        f"{safe_text(parent.name)}/{title}" for parent, title in zip(parents, short, strict=True)
    ]
    for titles in (short, within):
        if len(set(titles)) == len(titles):
            return titles
    return [safe_text(str(folder)) for folder in folders]
