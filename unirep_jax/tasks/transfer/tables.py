"""Tables of a network evaluated on other data sets: classes, events in time, retrieval."""

from collections.abc import Sequence

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import cell, markdown_table, unique
from unirep_jax.tasks.generalization.tables import cross_modal_tables
from unirep_jax.tasks.retrieval.tables import retrieval_tables

EVENT_COLUMNS = {
    "segment_precision": "P",
    "segment_recall": "R",
    "segment_f1": "F1",
    "event_f1": "event F1",
    "any_event_f1": "any event F1",
    "published_precision": "published P",
    "published_recall": "published R",
    "published_f1": "published F1",
}


def transfer_tables(measurements: Sequence[Measurement]) -> str:
    """The tables of every task that was evaluated, as Markdown."""
    by_task = {
        cross_modal_tables: ("cmg", "oscmg"),
        event_tables: ("events",),
        retrieval_tables: ("retrieval",),
    }
    parts = []
    for table, experiments in by_task.items():
        rows = [m for m in measurements if m.experiment in experiments]
        parts += [table(rows)] if rows else []
    return "\n".join(parts)


def event_tables(measurements: Sequence[Measurement]) -> str:
    """Precision, recall and F1 of events in time, a row per direction and method, as Markdown."""
    parts = []
    for dataset in unique(m.dataset for m in measurements):
        rows = [m for m in measurements if m.dataset == dataset]
        metrics = [name for name in EVENT_COLUMNS if any(m.metric == name for m in rows)]
        lines = [
            [f"{source} → {target}", method]
            + [
                cell(rows, source=source, target=target, method=method, metric=metric)
                for metric in metrics
            ]
            for source, target in unique((m.source, m.target) for m in rows)
            for method in unique(m.method for m in rows)
        ]
        header = ["direction", "method", *(EVENT_COLUMNS[name] for name in metrics)]
        parts.append(
            f"### {dataset}: events in time\n\nPercent, over seconds but for event F1. Published: "
            f"with background, averaged over batches of 80.\n\n{markdown_table(header, lines)}"
        )
    return "\n".join(parts)
