"""Tables of retrieval after training on noisy pairs: a row per method, a column per noise."""

from collections.abc import Sequence

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import cell, markdown_table, unique

RECOVERY = {
    "mass_on_given": ("plan on given pairs", 100),
    "mass_on_truth": ("plan on true pairs", 100),
    "recovered": ("plan of mispaired rows on their partners", 100),
}
SECTIONS = {
    "R@1, one modality against one by cosine": ("recall_at_1", "cosine"),
    "R@1, one modality against one by volume": ("recall_at_1", "volume"),
    **{title: (name, "none") for name, (title, _) in RECOVERY.items()},
}


def noisy_pairs_tables(measurements: Sequence[Measurement]) -> str:
    """Per data set: recall, and where plans lie, by noise, as Markdown."""
    parts = []
    for dataset in unique(m.dataset for m in measurements):
        rows = [m for m in measurements if m.dataset == dataset and not is_group(m)]
        splits, methods = unique(m.split for m in rows), unique(m.method for m in rows)
        parts.append(f"### {dataset}: training on noisy pairs, clean test pairs\n\nPercent.\n")
        for title, (metric, selection) in SECTIONS.items():
            chosen = [m for m in rows if (m.metric, m.selection) == (metric, selection)]
            lines = [
                [name, *(cell(chosen, method=name, split=s) for s in splits)] for name in methods
            ]
            if chosen:
                table = markdown_table([title, *splits], lines, names=1)
                parts.append(table)
    return "\n".join(parts)


def is_group(measurement: Measurement) -> bool:
    """Whether one modality was searched for among groups of the others, or the other way round."""
    return "+" in measurement.source + measurement.target
