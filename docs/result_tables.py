"""Writes the tables of a results page from the sweeps that measured them.

    python docs/result_tables.py docs/results/tuxpaint.md runs

Between `<!-- results: NAME -->` and `<!-- end of results -->` the page gets what the sweep in
runs/NAME prints, as Markdown: no number is copied by hand. The rest of the page stays as it is.
"""

import re
import sys
from pathlib import Path

from unirep_jax.evaluation.measurements import Measurement, read_measurements
from unirep_jax.evaluation.tables import unique
from unirep_jax.tasks import TASKS
from unirep_jax.tasks.bar import BASELINES
from unirep_jax.tasks.results import printed_results
from unirep_jax.tasks.task import Task

BLOCK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def written(page: str, runs: Path) -> str:
    """The page with every block made again.

    Raises:
      ValueError: it has no block, or the measurements are of no task.
      OSError, ResultsError: a sweep has no results, or damaged ones.
    """
    if not BLOCK.search(page):
        raise ValueError("no <!-- results: NAME --> ... <!-- end of results --> on the page")

    def block(found: re.Match) -> str:
        measurements = read_measurements(runs / found[2] / "results.jsonl")
        methods = unique(m.method for m in measurements)
        trained = [name for name in methods if name not in (*BASELINES, "chance")]
        text = printed_results(task_of(measurements), measurements, trained)
        return f"{found[1]}\n{separated(text)}\n{found[3]}"

    return BLOCK.sub(block, page)


def task_of(measurements: list[Measurement]) -> type[Task]:
    """The task that measures all these parts, the one with the fewest others."""
    parts = {m.experiment for m in measurements}
    fitting = [task for task in TASKS.values() if parts <= task.vocabulary.headline.keys()]
    if not fitting:
        raise ValueError(f"no task measures {', '.join(sorted(parts))}")
    return min(fitting, key=lambda task: len(task.vocabulary.headline))


def separated(text: str) -> str:
    """Blank lines between titles, tables and sentences, which a terminal does without."""
    lines = text.split("\n")
    made = []
    for before, line in zip(["", *lines], lines, strict=False):
        kinds = before.startswith("|"), line.startswith("|")
        if before and line and kinds[0] != kinds[1]:
            made.append("")
        made.append(line)
    return "\n".join(made)


if __name__ == "__main__":
    page, runs = map(Path, sys.argv[1:])
    page.write_text(written(page.read_text("utf-8"), runs), "utf-8")
