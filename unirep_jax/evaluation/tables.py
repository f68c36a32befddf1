"""Markdown tables of measurements: what the tables of all tasks are made of."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from unirep_jax.evaluation.intervals import estimate
from unirep_jax.evaluation.measurements import Measurement

OPEN_SET_METRICS = (("os_star", "OS*"), ("unk", "UNK"), ("hos", "HOS"))


def cell(rows: Iterable[Measurement], *, scale: float = 100, **wanted: Any) -> str:
    """The mean over directions and then over seeds, ± as `intervals.INTERVAL` says; percent."""
    found = estimate([scale * value for value in seed_means(rows, **wanted).values()])
    return "-" if found is None else str(found)


def seed_means(rows: Iterable[Measurement], **wanted: str) -> dict[int, float]:
    """By seed, the mean of all values whose fields are as wanted."""
    by_seed: dict[int, list[float]] = {}
    for m in rows:
        if all(getattr(m, field) == value for field, value in wanted.items()):
            by_seed.setdefault(m.seed, []).append(m.value)
    return {seed: statistics.fmean(values) for seed, values in by_seed.items()}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 2) -> str:
    """A Markdown table whose columns also line up as plain text; numbers, after names, right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(header, widths, strict=True)) + " |"]
    text.append(
        "|"
        + "|".join("-" * (w + 1) + (":" if i >= names else "-") for i, w in enumerate(widths))
        + "|"
    )
    for row in rows:
        cells = [
            c.ljust(w) if i < names else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def unique(items: Iterable) -> list:
    """In the order of their first appearance."""
    return list(dict.fromkeys(items))
