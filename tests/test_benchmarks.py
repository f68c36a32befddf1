"""Both sides of every comparison at a tiny size: ours runs, and the peers that are here agree."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package

import cases
import kernels
import ours
import pipeline

SIZE = 24
RATES = {"flops": 1e9, "bytes": 1e9}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ours, "DIM", 32)
    monkeypatch.setattr(ours, "CODES", 5)


def _converged(inputs):
    """Gradients of plans are compared at the solution, which so small a problem reaches late."""
    return inputs | {"iterations": 300} if "iterations" in inputs else inputs


@pytest.mark.parametrize("name", cases.CASES)
def test_both_sides_agree(name):
    case, absent, done = cases.CASES[name], set(), set()
    for pair in case.pairs:
        inputs, reached = _converged(case.inputs(SIZE)), None
        if importlib.util.find_spec(pair.needs) is None:
            absent.add(pair.needs)
        else:
            reached = pair.theirs(inputs)()
        if reached is None and pair.ours in done:
            continue
        outputs = pair.ours(inputs, reached)()
        done.add(pair.ours)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs))
        if reached is not None:
            assert pair.compare(outputs, reached)["difference"] <= pair.tolerance, pair.peer
    if absent:
        pytest.skip(f"ours ran; not installed: {', '.join(sorted(absent))}")


def test_our_tiles_give_what_whole_matrices_give(monkeypatch):
    inputs = {**ours.volume_inputs(SIZE), **ours.pair_inputs(SIZE)}
    sides = (ours.volumes, ours.mean_volume_gradients, ours.volume_loss, ours.info_nce)
    whole = [side(inputs, None)() for side in sides]
    monkeypatch.setattr(ours, "_block", lambda size: 7)
    for side, expected in zip(sides, whole, strict=True):
        tiled = side(inputs, None)()
        assert cases.largest_difference(tiled, expected)["difference"] < 1e-5


def test_a_difference_is_measured_against_the_largest_entry_and_the_worst_output_counts():
    theirs = np.array([0.0, 4.0]), np.array([2.0])
    close = np.array([0.4, 4.0]), np.array([2.0])
    assert cases.largest_difference(close, theirs)["difference"] == pytest.approx(0.1)
    far = np.array([0.4, 4.0]), np.array([1.0])
    assert cases.largest_difference(far, theirs)["difference"] == pytest.approx(0.5)


def test_a_plan_off_its_marginals_has_the_l1_error_of_rows_and_columns():
    assert ours.marginal_error(np.full((2, 2), 0.25)) == 0
    assert ours.marginal_error(np.array([[0.5, 0.0], [0.1, 0.4]])) == pytest.approx(0.2)


def test_a_row_says_what_was_missed_and_an_absent_peer_is_no_error():
    case = cases.CASES["metrics"]
    pair = case.pairs[0]._replace(needs="no_package_of_this_name")
    row = kernels.measure(case, pair, SIZE) | {"memory_target": None}
    kernels.add_floor(case, row, RATES)
    assert row["ours_s"] > 0 and "not installed" in kernels.cells(row)[-1]

    met = {
        "size": 8,
        "peer": "p",
        "ours_s": 1.0,
        "peer_s": 2.0,
        "ratio": 2.0,
        "target": 2,
        "agrees": True,
        "difference": 0.0,
        "compile_s": 0.1,
        "repeats": 5,
        "ours_mb": 1.0,
        "peer_mb": 5.0,
        "memory_target": 4,
    }
    assert "missed" not in kernels.cells(met)[-1] and "differ" not in kernels.cells(met)[-1]
    for worse in ({"ratio": 1.9}, {"peer_mb": 3.9}):
        assert "missed" in kernels.cells(met | worse)[-1]
    assert "outputs differ" in kernels.cells(met | {"agrees": False})[-1]

    environment = {"processor": "x", "threads": 1, "load": 0.0, "rates": RATES, "versions": {}}
    table = kernels.markdown({"metrics": [met | {"ratio": 1.0}, row]}, environment)
    assert "What bounds it" in table and "not installed" in table
    json.dumps([met, row])


def test_the_pipeline_is_timed_on_files_that_hold_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "SHAPES", {"audio": (3, 2), "video": (3, 2, 2, 4)})
    monkeypatch.setattr(pipeline, "BATCH", 4)
    monkeypatch.chdir(tmp_path)
    row = pipeline.compare(examples=20, count=6, dtype="float16", step_ms=1000.0)
    assert row["warm"]["examples_per_s"] > 0 and row["step_over_batch"] > 0
    assert list(tmp_path.iterdir()) == []
    pipeline.write_features(tmp_path, 20, "float16")
    mapped = pipeline.mapped_features(tmp_path)
    assert isinstance(mapped.features["video"], np.memmap) and mapped.train.all()
    assert 0.8 < np.std(mapped.features["video"].astype(np.float32)) < 1.2
