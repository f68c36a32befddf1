"""Tables of cross-modal generalisation, in the layout of Table 2 of MICU."""

from collections.abc import Callable, Sequence

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import OPEN_SET_METRICS, cell, markdown_table, unique

SELECTION_RULES = {
    "honest": "Rejection threshold fixed on held-out source data, before the target is seen.",
    "paper": "Best of 10 thresholds by test HOS, as the papers report: an upper bound.",
}


THRESHOLD_FREE = (("auroc", "AUROC"), ("oscr", "OSCR"))
THRESHOLD_FREE_ABOUT = (
    "Examples ranked by the probe's largest probability. AUROC: known above unknown ones. OSCR: "
    "known and rightly classified above unknown ones."
)


def cross_modal_tables(measurements: Sequence[Measurement]) -> str:
    """Table 2 of MICU per data set and selection rule, AUROC and OSCR, closed-set accuracy across
    and within modalities, as Markdown."""
    parts = []
    for dataset in unique(m.dataset for m in measurements):
        here = [m for m in measurements if m.dataset == dataset]
        for selection in unique(m.selection for m in here if m.selection != "none"):
            rows = [m for m in here if m.selection == selection]
            parts.append(
                f"### {dataset}: open set, selection `{selection}`\n\n"
                f"{SELECTION_RULES[selection]} Percent.\n\n"
                + _direction_table(rows, OPEN_SET_METRICS)
            )
        free = [m for m in here if m.metric in dict(THRESHOLD_FREE)]
        if free:
            parts.append(
                f"### {dataset}: open set, no threshold\n\n{THRESHOLD_FREE_ABOUT} Percent.\n\n"
                + _direction_table(free, THRESHOLD_FREE)
            )
        accuracy = [m for m in here if m.metric == "accuracy"]
        across = [m for m in accuracy if m.source != m.target]
        if across:
            parts.append(
                f"### {dataset}: closed set\n\nAccuracy, percent.\n\n"
                + _direction_table(across, (("accuracy", "accuracy"),))
            )
        within = [m for m in accuracy if m.source == m.target]
        if within:
            parts.append(
                f"### {dataset}: closed set within a modality\n\nAccuracy of a probe that is "
                "trained and tested on one modality, percent.\n\n" + _modality_table(within)
            )
    return "\n".join(parts)


def _modality_table(rows: Sequence[Measurement]) -> str:
    """A row per method, a column per modality, and their mean."""
    modalities = unique(m.source for m in rows)
    lines = [
        [
            method,
            *(cell(rows, method=method, source=m) for m in modalities),
            cell(rows, method=method),
        ]
        for method in unique(m.method for m in rows)
    ]
    return markdown_table(["method", *modalities, "mean"], lines, names=1)


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
                for split in splits
                for s, t in directions
                for metric, _ in metrics
            ]
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


def _order(rows: Sequence[Measurement]) -> Callable[[str], int]:
    """Place of a modality, in the order in which they first appear."""
    return unique(name for m in rows for name in (m.source, m.target)).index
