"""Tables of numbers with their uncertainty, from the measurements of one or several groups."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from unirep_jax.evaluation.intervals import Difference, Estimate, estimate
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import unique
from unirep_jax.report.runs import Group
from unirep_jax.tasks import TASKS

# Words of all tasks. Title and scale of a metric; what is not listed goes by its own name, in
# percent.
METRICS = {k: v for task in TASKS.values() for k, v in task.vocabulary.metrics.items()}
UNITS = {100: "%", 1: "rank"}  # by scale
SPLITS = {"all": ""} | {k: v for t in TASKS.values() for k, v in t.vocabulary.splits.items()}
SELECTIONS = {k: v for task in TASKS.values() for k, v in task.vocabulary.selections.items()}
EXPERIMENTS = {k: v for task in TASKS.values() for k, v in task.vocabulary.experiments.items()}


class Column(NamedTuple):
    """A metric, and its unit: "%" or "rank"."""

    title: str
    unit: str


class Line(NamedTuple):
    """Numbers of one run, or of its baseline by that name, where it was evaluated."""

    place: str
    run: str
    cells: tuple[Estimate | Difference | None, ...]


class Table(NamedTuple):
    title: str
    note: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def names(self) -> int:
        """How many columns stand before those of numbers."""
        return 1 if self._one_place else 2

    @property
    def _one_place(self) -> bool:
        return len({line.place for line in self.lines}) == 1

    def texts(self) -> list[list[str]]:
        """Header and lines as text; "place" is left out where it is one and the same."""
        header = ["place", "run", *(column.title for column in self.columns)]
        rows = [
            [line.place, line.run, *("–" if cell is None else str(cell) for cell in line.cells)]
            for line in self.lines
        ]
        skipped = int(self._one_place)
        return [row[skipped:] for row in (header, *rows)]


def tabulate(groups: Sequence[Group]) -> list[Table]:
    """A table per task, data set, split, selection and kind of place; a line per place and run."""
    sections: dict[tuple, list[Measurement]] = {}
    for m in titled(groups):
        section = m.experiment, m.dataset, m.split, m.selection, bool(m.target), _of_groups(m)
        sections.setdefault(section, []).append(m)
    return [_table(rows) for rows in sections.values()]


def titled(groups: Sequence[Group]) -> Iterable[Measurement]:
    """Measurements under the titles of their groups; then baselines, of the first that has them."""
    rows = [
        (group.title, run, m) for group in groups for run in group.runs for m in run.measurements
    ]
    owns = lambda run, m: m.method == run.config["method.name"]
    yield from (dataclasses.replace(m, method=title) for title, run, m in rows if owns(run, m))
    owner: dict[tuple, str] = {}
    for title, run, m in rows:
        what = m.experiment, m.method, m.dataset, m.split, m.selection, m.source, m.target
        if not owns(run, m) and owner.setdefault(what, title) == title:
            yield m


def _table(rows: Sequence[Measurement]) -> Table:
    first = rows[0]
    metrics = unique(m.metric for m in rows)
    by_place: dict[tuple[str, str], list[Measurement]] = {}
    for m in rows:
        by_place.setdefault((m.source, m.target), []).append(m)
    # What is done class by class with one kind of input needs only the class.
    classes = metrics == ["class_accuracy"] and len({source for source, _ in by_place}) == 1
    lines = []
    for (source, target), here in by_place.items():
        place = target if classes else f"{source} → {target}" if target else source
        lines += _lines(place, metrics, here)
    if first.target and len(by_place) > 1:
        lines += _lines("mean of all", metrics, [m for m in rows if m.source != m.target])
    units = {name: _scale(name) for name in metrics}
    columns = tuple(
        Column(METRICS[name][0] if name in METRICS else name.replace("_", " "), UNITS[scale])
        for name, scale in units.items()
    )
    title = _title(rows, metrics, len(by_place))
    return Table(title, SELECTIONS.get(first.selection, ""), columns, tuple(lines))


def _title(rows: Sequence[Measurement], metrics: Sequence[str], num_places: int) -> str:
    """What the measurements of a table have in common, in words."""
    one = rows[0]
    parts = [
        SPLITS.get(one.split, one.split),
        EXPERIMENTS.get(one.experiment, ""),
        one.selection.replace("_", " ") if one.selection in SELECTIONS else "",
        "in-modal heads on features" if metrics == ["in_modal_accuracy"] else "",
        "class by class" if metrics == ["class_accuracy"] else "",
        "one modality against the others" if _of_groups(one) else "",
        one.source if num_places == 1 or metrics == ["class_accuracy"] else "",
    ]
    return f"{one.dataset}: {', '.join(filter(None, parts))}".removesuffix(": ")


def _of_groups(one: Measurement) -> bool:
    """Whether a modality is searched for among several together, or several for one."""
    return bool(one.target) and "+" in one.source + one.target and one.metric != "class_accuracy"


def _lines(place: str, metrics: Sequence[str], rows: Iterable[Measurement]) -> list[Line]:
    """A line per run; a seed counts by the mean of its values, whatever places they are from."""
    values: dict[str, dict[str, dict[int, list[float]]]] = {}
    for m in rows:
        seeds = values.setdefault(m.method, {}).setdefault(m.metric, {})
        seeds.setdefault(m.seed, []).append(_scale(m.metric) * m.value)
    means = lambda seeds: [statistics.fmean(found) for found in seeds.values()]
    return [
        Line(place, run, tuple(estimate(means(found.get(name, {}))) for name in metrics))
        for run, found in values.items()
    ]


def _scale(metric: str) -> int:
    return METRICS.get(metric, ("", 100))[1]
