"""Tables of a results page are written from the measurements of sweeps."""

import dataclasses
import runpy
from pathlib import Path

import pytest

from unirep_jax.evaluation.measurements import Measurement, write_measurements

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "result_tables.py"))
PAGE = """# Results

<!-- results: one -->
what stood here before
<!-- end of results -->

The end.
"""


@pytest.fixture
def runs(tmp_path):
    row = Measurement(
        "retrieval", "MOVER", "toy", "all", "a", "b", "recall_at_1", 0.25, 100, 0, "cosine"
    )
    rows = [
        dataclasses.replace(row, method=method, seed=seed, value=value + seed / 100)
        for method, value in (("MOVER", 0.25), ("cca", 0.5), ("chance", 0.01))
        for seed in (0, 1)
    ]
    (tmp_path / "one").mkdir()
    write_measurements(tmp_path / "one" / "results.jsonl", rows)
    return tmp_path


def test_a_block_gets_the_table_and_the_verdict_of_its_sweep_and_the_rest_stays(runs):
    made = SCRIPT["written"](PAGE, runs)
    assert made.startswith("# Results\n") and made.endswith("The end.\n")
    assert "what stood here before" not in made
    (line,) = [line for line in made.split("\n") if line.startswith("| MOVER")]
    assert "25.5 ±" in line
    assert "is WORSE than cca" in made
    assert SCRIPT["written"](made, runs) == made, "writing again changes nothing"


def test_tables_stand_between_blank_lines(runs):
    lines = SCRIPT["written"](PAGE, runs).split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    last = max(i for i, line in enumerate(lines) if line.startswith("|"))
    assert lines[first - 1] == lines[last + 1] == ""


def test_a_page_without_a_block_is_refused(runs):
    with pytest.raises(ValueError, match="no <!-- results: NAME -->"):
        SCRIPT["written"]("# Results\n", runs)
