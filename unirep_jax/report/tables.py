"""Tables of measurements in the layout of the papers, as Markdown."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from unirep_jax.evaluation.measurements import Measurement

SELECTION_RULES = {
    "honest": "Rejection threshold fixed on held-out source data, before the target is seen.",
    "paper": "Best of 10 thresholds by test HOS, as the papers report: an upper bound.",
}
OPEN_SET_METRICS = (("os_star", "OS*"), ("unk", "UNK"), ("hos", "HOS"))


def cross_modal_tables(measurements: Sequence[Measurement]) -> str:
    """Table 2 of MICU per data set and selection rule, then closed-set accuracy, as Markdown."""
    parts = []
    for dataset in unique(m.dataset for m in measurements):
        for selection in unique(m.selection for m in measurements if m.selection != "none"):
            rows = [m for m in measurements if (m.dataset, m.selection) == (dataset, selection)]
            parts.append(
                f"### {dataset}: open set, selection `{selection}`\n\n"
                f"{SELECTION_RULES[selection]} Percent.\n\n"
                + _direction_table(rows, OPEN_SET_METRICS)
            )
        rows = [m for m in measurements if (m.dataset, m.metric) == (dataset, "accuracy")]
        across = [m for m in rows if m.source != m.target]
        parts.append(
            f"### {dataset}: closed set\n\nAccuracy, percent.\n\n"
            + _direction_table(across, (("accuracy", "accuracy"),))
        )
    return "\n".join(parts)


def _direction_table(rows: Sequence[Measurement], metrics: Sequence[tuple[str, str]]) -> str:
    """A row per (pair, method), columns split × direction × metric; means over pairs at the end."""
    splits, methods = unique(m.split for m in rows), unique(m.method for m in rows)
    pairs = unique(tuple(sorted((m.source, m.target), key=_order(rows))) for m in rows)
    header = ["pair", "method"]
    for split in splits:
        for arrow in ("→", "←"):
            label = f"{split} " if len(splits) > 1 else ""
            header += [f"{label}{arrow} {title}" for _, title in metrics]
    lines = []
    for a, b in pairs:
        for method in methods:
            directions = ((a, b), (b, a))
            cells = [
                cell(rows, method=method, split=split, source=s, target=t, metric=metric)
                for split in splits for s, t in directions for metric, _ in metrics
            ]  # fmt: skip
            lines.append([f"{a} → {b}", method, *cells])
    if len(pairs) > 1:
        for method in methods:
            cells = []
            for split in splits:
                for metric, _ in metrics:
                    cells += [cell(rows, method=method, split=split, metric=metric)]
                cells += [""] * len(metrics)
            lines.append(["mean of all", method, *cells])
    return markdown_table(header, lines)


def cell(rows: Iterable[Measurement], *, scale: float = 100, **wanted: str) -> str:
    """The mean over directions and then over seeds, ± the deviation over seeds; percent."""
    values = [scale * value for value in seed_means(rows, **wanted).values()]
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"


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
    text.append("|" + "|".join("-" * (w + 1) + (":" if i >= names else "-")
                               for i, w in enumerate(widths)) + "|")  # fmt: skip
    for row in rows:
        cells = [c.ljust(w) if i < names else c.rjust(w)
                 for i, (c, w) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def unique(items: Iterable) -> list:
    """In the order of their first appearance."""
    return list(dict.fromkeys(items))


def _order(rows: Sequence[Measurement]) -> Callable[[str], int]:
    """Place of a modality, in the order in which they first appear."""
    return unique(name for m in rows for name in (m.source, m.target)).index
