"""Tables as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.intervals import INTERVAL
from unirep_jax.evaluation.tables import markdown_table
from unirep_jax.report.tabulate import Table
from unirep_jax.report.text import csv_cell, latex_escaped, markdown_escaped

CSV_HEADER = ("table", "place", "run", "metric", "unit", "mean", "half_width", "seeds")


def write_tables(stem: Path, tables: Iterable[Table]) -> list[Path]:
    """Writes <stem>.csv, <stem>.md and <stem>.tex, and returns their paths."""
    tables = list(tables)
    texts = {".csv": as_csv(tables), ".md": as_markdown(tables), ".tex": as_latex(tables)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_page(path, text)
    return paths


def write_page(path: Path, text: str) -> None:
    """Writes a text; a link in its place is replaced, and what it leads to is left alone."""
    replace_file(path, lambda stream: stream.write(text.encode()))


def as_csv(tables: Iterable[Table]) -> str:
    """A line per number, in the unit of its column and at full precision.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for table in tables:
        for line in table.lines:
            for column, cell in zip(table.columns, line.cells, strict=True):
                if cell is not None:
                    texts = map(csv_cell, (table.title, line.place, line.run, *column))
                    writer.writerow([*texts, *cell])
    return text.getvalue()


def as_markdown(tables: Iterable[Table]) -> str:
    parts = [f"{INTERVAL} Percent but for ranks.\n"]
    for table in tables:
        header, *lines = [[markdown_escaped(cell) for cell in row] for row in table.texts()]
        title, note = markdown_escaped(table.title), markdown_escaped(table.note)
        note = f"{note}\n\n" if note else ""
        parts.append(f"### {title}\n\n{note}{markdown_table(header, lines, names=table.names)}")
    return "\n".join(parts)


def as_latex(tables: Iterable[Table]) -> str:
    """Floats for the booktabs package."""
    parts = [f"% {INTERVAL} Percent but for ranks. Needs \\usepackage{{booktabs}}.\n"]
    for table in tables:
        header, *lines = [
            " & ".join(latex_escaped(cell) for cell in row) + r" \\" for row in table.texts()
        ]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering",
                    rf"\caption{{{latex_escaped(f'{table.title}. {table.note}'.strip())}}}",
                    rf"\begin{{tabular}}{{{'l' * table.names}{'r' * len(table.columns)}}}",
                    r"\toprule",
                    header,
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                    "",
                ]
            )
        )
    return "\n".join(parts)
