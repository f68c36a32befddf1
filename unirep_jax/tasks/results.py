"""What a run or a sweep says of its measurements: all in a file, the essence on a terminal."""

from collections.abc import Sequence

from unirep_jax.evaluation.intervals import INTERVAL, estimate
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.evaluation.tables import markdown_table, seed_means, unique
from unirep_jax.tasks.bar import verdict
from unirep_jax.tasks.differences import difference_tables
from unirep_jax.tasks.sections import by_section, headline_of, place_of, title_of
from unirep_jax.tasks.task import Task, Vocabulary

WIDTH = 100  # columns of a terminal
MOST_METRICS = 3  # of a printed table
_SHORTEST = 12  # letters of a cell that is cut


def results_page(
    task: type[Task], measurements: Sequence[Measurement], methods: Sequence[str]
) -> str:
    """Everything, as Markdown: verdicts, the tables of the task, of a sweep paired differences.

    Args:
      measurements: of one run, or of all runs of a sweep.
      methods: what was trained, as measurements call it; the rest are baselines and chance.
    """
    vocabulary = task.vocabulary
    sentences = [s for name in methods for s in verdict(measurements, vocabulary, name)]
    parts = [INTERVAL, "\n".join(f"* {s}" for s in sentences), task.tables(measurements)]
    if len(methods) > 1 or len({m.seed for m in measurements}) > 1:
        parts.append(difference_tables(measurements, vocabulary, methods))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def printed_results(
    task: type[Task], measurements: Sequence[Measurement], methods: Sequence[str]
) -> str:
    """Means over places, the best and the worst place and the verdicts, no line over `WIDTH`."""
    vocabulary, parts = task.vocabulary, []
    for section, rows in by_section(measurements, vocabulary).items():
        names = headline_of(section, rows, vocabulary)[:MOST_METRICS]
        places = len({(m.source, m.target) for m in rows})
        about = f" (mean of {places} places)" if places > 1 else ""
        table = _table(rows, names, vocabulary, places=places)
        parts.append(f"{_cut(title_of(section, vocabulary), WIDTH - len(about))}{about}\n{table}")
    if len({m.seed for m in measurements}) > 1:
        parts.append(wrapped(INTERVAL))
    for method in methods:
        parts += [wrapped(sentence) for sentence in verdict(measurements, vocabulary, method)]
    return "\n".join(parts)


def wrapped(text: str) -> str:
    """The text in lines of at most `WIDTH` letters; a longer word is cut."""
    lines = [""]
    for word in text.split():
        word = _cut(word, WIDTH)
        if len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines) + "\n"


def _table(
    rows: Sequence[Measurement], names: Sequence[str], vocabulary: Vocabulary, *, places: int
) -> str:
    """A row per method: the mean of each metric, and the first one at its extreme places."""
    titles = [vocabulary.metrics.get(name, (name.replace("_", " "), 100)) for name in names]
    header = ["method", *(title for title, _ in titles)]
    header += [f"best {titles[0][0]}", f"worst {titles[0][0]}"] if places > 1 else []
    lines = []
    for method in unique(m.method for m in rows):
        cells = []
        for name, (_, scale) in zip(names, titles, strict=True):
            means = seed_means(rows, method=method, metric=name)
            found = estimate([scale * value for value in means.values()])
            cells.append("-" if found is None else str(found))
        if places > 1:
            cells += _extremes([m for m in rows if (m.method, m.metric) == (method, names[0])])
        lines.append([method, *cells])
    return markdown_table(*_fitted(header, lines), names=1)


def _extremes(rows: Sequence[Measurement]) -> list[str]:
    """The best and the worst place by the mean over seeds."""
    values: dict[str, list[float]] = {}
    for m in rows:
        values.setdefault(place_of(m), []).append(100 * m.value)
    means = {place: sum(found) / len(found) for place, found in values.items()}
    if len(means) < 2:
        return ["", ""]
    chosen = max(means, key=lambda p: means[p]), min(means, key=lambda p: means[p])
    return [f"{means[place]:.1f} {place}" for place in chosen]


def _fitted(header: list[str], lines: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The widest columns are cut until the table fits; what is cut is in the file."""
    table = [header, *lines]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    while sum(widths) + 3 * len(widths) + 1 > WIDTH and max(widths) > _SHORTEST:
        widths[widths.index(max(widths))] -= 1
    table = [[_cut(c, w) for c, w in zip(row, widths, strict=True)] for row in table]
    return table[0], table[1:]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
