"""Command line: python -m unirep_jax.tasks.noisy_pairs FOLDER ... --out=FOLDER.

Joins sweeps of configs/noisy_pairs.py that differ in noise or share: one table with paired
differences (curves.md) and pictures of recall against the share of wrong pairs (curves_*.png).
"""

import argparse
import sys
from pathlib import Path

from unirep_jax.data.files import user_path
from unirep_jax.evaluation.measurements import ResultsError, read_measurements
from unirep_jax.evaluation.tables import unique
from unirep_jax.tasks.bar import LINEAR
from unirep_jax.tasks.noisy_pairs.curves import noise_curves
from unirep_jax.tasks.noisy_pairs.task import NoisyPairs
from unirep_jax.tasks.results import results_page

BESIDE = ("chance", "untrained", *LINEAR)  # rows that no variant trained


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.tasks.noisy_pairs", description="Join sweeps over noise."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder of the table and pictures")
    options = parser.parse_args(arguments)
    try:
        files = [user_path(folder) / "results.jsonl" for folder in options.folders]
        measurements = [m for file in files for m in read_measurements(file)]
        if any(m.experiment != "noisy_pairs" for m in measurements) or not measurements:
            raise ResultsError("these are no results of configs/noisy_pairs.py")
        out = user_path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        methods = [name for name in unique(m.method for m in measurements) if name not in BESIDE]
        (out / "curves.md").write_text(results_page(NoisyPairs, measurements, methods), "utf-8")
        for score in ("cosine", "volume"):
            noise_curves(out / f"curves_{score}.png", measurements, score=score)
        print(out / "curves.md")
    except (ResultsError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
