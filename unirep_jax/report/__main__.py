"""Command line: python -m unirep_jax.report FOLDER ... [--out=report.html].

Writes one page about a run, a sweep, or several of them next to each other, which needs no network,
and its tables beside it as CSV, Markdown and LaTeX.
"""

import argparse
import sys
from pathlib import Path

from unirep_jax.data.files import user_path
from unirep_jax.data.safe_text import safe_text
from unirep_jax.report.differences import tabulate_differences
from unirep_jax.report.page import page
from unirep_jax.report.run_files import ReportError
from unirep_jax.report.runs import read_groups
from unirep_jax.report.table_files import write_page, write_tables
from unirep_jax.report.tabulate import tabulate


def write_report(folders: list[Path], out: Path) -> list[Path]:
    """Writes the page and its tables, and returns their paths.

    Raises:
      ReportError: as `read_groups` and `page`.
    """
    groups = read_groups(folders)
    tables = tabulate(groups) + tabulate_differences(groups)
    text = page(groups, tables)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_page(out, text)
    return [out, *write_tables(out.with_suffix(""), tables)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.report", description="Write one page about runs and sweeps."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a run or sweep")
    parser.add_argument(
        "--out", type=Path, help="the page; by default report.html, in the folder if it is one"
    )
    options = parser.parse_args(arguments)
    inside = options.folders[0] if len(options.folders) == 1 else Path()
    try:
        out = user_path(options.out or inside / "report.html")
        for path in write_report(options.folders, out):
            print(safe_text(str(path)))
    except (ReportError, OSError) as error:
        # Names in a folder of somebody else must not write to the terminal as they like.
        sys.exit(f"error: {safe_text(str(error))}")


if __name__ == "__main__":
    main()
