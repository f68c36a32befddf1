"""Accuracy against information: a picture of runs of configs/known_information.py.

    python -m unirep_jax.tasks.oom runs/known --figure=known.png

A curve for each method, or for each variant of a sweep, over the data sets in the folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.tasks.oom.figures import accuracy_against_information
from unirep_jax.tasks.oom.known import curves


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.tasks.oom", description="Accuracy against information."
    )
    parser.add_argument(
        "folder", type=Path, help="of runs or sweeps of configs/known_information.py"
    )
    parser.add_argument("--figure", type=Path, default=Path("known_information.png"))
    chosen = parser.parse_args(arguments)
    # A sweep's own table has its rows once more, under the names of the variants.
    files = sorted(chosen.folder.rglob("results.jsonl"), key=lambda path: len(path.parts))
    tops = [f for f in files if not any(o.parent in f.parent.parents for o in files)]
    measurements = [m for file in tops for m in read_measurements(file)]
    found = curves(measurements)
    if not found:
        parser.error(f"{chosen.folder}: no results of configs/known_information.py")
    accuracy_against_information(chosen.figure, found)
    print(f"wrote {chosen.figure}")


if __name__ == "__main__":
    main()
