"""Paired differences over shared seeds: variants of a sweep against the first, and the bar."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from unirep_jax.evaluation.intervals import Difference, Estimate, estimate
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import markdown_table
from unirep_jax.tasks.bar import LINEAR, Comparison, compare, strongest
from unirep_jax.tasks.sections import Section, by_section, headline_of, title_of
from unirep_jax.tasks.task import Vocabulary

ABOUT = (
    "Percent. A difference is taken seed by seed, at the places that both rows have, and its "
    "interval is over those differences: what makes a seed easy for all is not in it. Not "
    "distinguishable: the interval holds 0. A single seed has no interval."
)


class DifferenceRow(NamedTuple):
    """A variant by the first headline metric of a section.

    first, linear: against the first variant and against the best linear row, None where there is
    nothing in common.
    """

    section: Section
    metric: str
    variant: str
    mean: Estimate
    first: Comparison | None
    linear: Comparison | None


def difference_rows(
    measurements: Sequence[Measurement], vocabulary: Vocabulary, variants: Sequence[str]
) -> list[DifferenceRow]:
    """A row for every section and variant."""
    found, known = [], {*variants}
    for section, rows in by_section(measurements, vocabulary).items():
        of: dict[str, list[Measurement]] = {}  # each row is looked at once, however many variants
        for m in rows:
            of.setdefault(m.method, []).append(m)
        ours = [m for m in rows if m.method in known]
        metric = next(iter(headline_of(section, ours, vocabulary)), "")
        linear = [m for name in LINEAR for m in of.get(name, ())]
        for variant in variants:
            own = of.get(variant, [])
            by_seed: dict[int, list[float]] = {}
            for m in own:
                if m.metric == metric:
                    by_seed.setdefault(m.seed, []).append(100 * m.value)
            mean = estimate([statistics.fmean(values) for values in by_seed.values()])
            if mean is not None:
                first = own + of.get(variants[0], [])
                found.append(
                    DifferenceRow(
                        section,
                        metric,
                        variant,
                        mean,
                        compare(section, first, metric, variant, variants[0]),
                        strongest(section, own + linear, metric, variant, tuple(LINEAR)),
                    )
                )
    return found


def over_seeds(comparison: Comparison | None) -> Difference | None:
    """The difference, without interval where it is of one seed."""
    if comparison is None or comparison.over == "seeds":
        return None if comparison is None else comparison.difference
    return comparison.difference._replace(half_width=None)


def difference_tables(
    measurements: Sequence[Measurement], vocabulary: Vocabulary, variants: Sequence[str]
) -> str:
    """A table per section that has two rows to compare, as Markdown; "" where there is none."""
    sections: dict[Section, list[DifferenceRow]] = {}
    for row in difference_rows(measurements, vocabulary, variants):
        sections.setdefault(row.section, []).append(row)
    parts = []
    for section, rows in sections.items():
        if not any(row.first or row.linear for row in rows):
            continue
        title = vocabulary.metrics.get(rows[0].metric, (rows[0].metric, 100))[0]
        header = ["variant", title, f"minus {variants[0]}", "minus the best linear row"]
        cells = [
            [row.variant, str(row.mean), _text(row.first), _text(row.linear, named=True)]
            for row in rows
        ]
        parts.append(
            f"#### {title_of(section, vocabulary)}\n\n" + markdown_table(header, cells, names=1)
        )
    return f"### Paired differences\n\n{ABOUT}\n\n" + "\n".join(parts) if parts else ""


def _text(comparison: Comparison | None, *, named: bool = False) -> str:
    difference = over_seeds(comparison)
    if comparison is None or difference is None:
        return "-"
    return f"{comparison.against}: {difference}" if named else str(difference)
