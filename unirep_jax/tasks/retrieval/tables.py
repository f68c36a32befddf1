"""Tables of retrieval, a row per direction and method."""

from collections.abc import Sequence

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import cell, markdown_table, unique

COLUMNS = {
    "recall_at_1": ("R@1", 100),
    "recall_at_5": ("R@5", 100),
    "recall_at_10": ("R@10", 100),
    "median_rank": ("median rank", 1),
    "map": ("mAP", 100),
    "class_map": ("class mAP", 100),
}
SCORES = {
    "cosine": "by cosine",
    "volume": "by volume",
    "height": "by height (volume of all over volume of the group)",
}
SPLITS = {
    "all": "",
    "seen": "; pairs that training had in one example",
    "unseen": "; pairs that training never had in one example",
}


def retrieval_tables(measurements: Sequence[Measurement]) -> str:
    """Per data set and score: recalls, mean average precision and recall by class, as Markdown."""
    sections: dict[tuple, list[Measurement]] = {}
    for m in measurements:
        key = (m.dataset, "+" in m.source + m.target, m.selection, m.split)
        sections.setdefault(key, []).append(m)
    parts = []
    for (dataset, group, selection, split), rows in sections.items():
        sides = "one modality against the others" if group else "one modality against one"
        title = f"### {dataset}: {sides}, {SCORES[selection]}{SPLITS[split]}"
        parts.append(f"{title}\n\nPercent but for ranks.\n\n{_table(rows)}")
    return "\n".join(parts)


def _table(rows: Sequence[Measurement]) -> str:
    methods, directions = (
        unique(m.method for m in rows),
        unique((m.source, m.target) for m in rows),
    )
    metrics = [name for name in COLUMNS if any(m.metric == name for m in rows)]
    lines = []
    for source, target in directions:
        chosen = [m for m in rows if (m.source, m.target) == (source, target)]
        lines += [_line(f"{source} → {target}", method, metrics, chosen) for method in methods]
    if len(directions) > 1:
        lines += [_line("mean of all", method, metrics, rows) for method in methods]
    header = ["direction", "method", *(COLUMNS[name][0] for name in metrics)]
    return markdown_table(header, lines)


def _line(
    title: str, method: str, metrics: Sequence[str], rows: Sequence[Measurement]
) -> list[str]:
    cells = [cell(rows, scale=COLUMNS[name][1], method=method, metric=name) for name in metrics]
    return [title, method, *cells]
