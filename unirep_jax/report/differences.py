"""Tables of paired differences: each configuration against the first, and the best linear row."""

from collections.abc import Sequence

from unirep_jax.report.runs import Group
from unirep_jax.report.tabulate import (
    EXPERIMENTS,
    METRICS,
    SELECTIONS,
    SPLITS,
    Column,
    Line,
    Table,
    titled,
)
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.differences import ABOUT, DifferenceRow, difference_rows, over_seeds
from unirep_jax.tasks.sections import Section, title_of
from unirep_jax.tasks.task import Vocabulary

VOCABULARY = Vocabulary(
    "",
    metrics=METRICS,
    splits=SPLITS,
    selections=SELECTIONS,
    experiments=EXPERIMENTS,
    headline={k: v for task in TASKS.values() for k, v in task.vocabulary.headline.items()},
)


def tabulate_differences(groups: Sequence[Group]) -> list[Table]:
    """A table per section of a task, where two configurations or two seeds can be compared."""
    measurements, variants = [*titled(groups)], [group.title for group in groups]
    if len(groups) < 2 and len({m.seed for m in measurements}) < 2:
        return []
    sections: dict[Section, list[DifferenceRow]] = {}
    for row in difference_rows(measurements, VOCABULARY, variants):
        sections.setdefault(row.section, []).append(row)
    return [
        _table(section, rows, variants[0])
        for section, rows in sections.items()
        if any(row.first or row.linear for row in rows)
    ]


def _table(section: Section, rows: Sequence[DifferenceRow], first: str) -> Table:
    columns = (METRICS[rows[0].metric][0], f"minus {first}", "minus the best linear row")
    named = dict.fromkeys(row.linear.against for row in rows if row.linear)
    linear = f" Linear rows: {', '.join(named)}." if named else ""
    return Table(
        f"{title_of(section, VOCABULARY)}: paired differences",
        ABOUT + linear,
        tuple(Column(title, "%") for title in columns),
        tuple(
            Line("", row.variant, (row.mean, over_seeds(row.first), over_seeds(row.linear)))
            for row in rows
        ),
    )
