"""The script for accelerators runs on a processor at tiny sizes, and its checks can fail."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
sys.path.append(str(Path(__file__).parent / "losses"))

import accelerator_checks
import accelerator_rows
import accelerator_times
from accelerator_rows import Rows, Skipped
from every_kernel import EXAMPLES, SIZES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ABSENT = ("beartype", "geomloss", "jaxopt", "ml_collections", "ot", "ott", "tensorflow")


def script(out, *arguments, absent=()):
    """Runs it where these packages cannot be imported; what it printed, and its rows."""
    folder = out.parent / "absent"
    folder.mkdir(exist_ok=True)
    lines = [f"sys.modules[{name!r}] = None" for name in absent]
    (folder / "sitecustomize.py").write_text("\n".join(["import sys", *lines]))
    command = [sys.executable, str(BENCHMARKS / "accelerator.py"), "--tiny", f"--out={out}"]
    subprocess.run(
        [*command, *arguments],
        check=True,
        capture_output=True,
        timeout=3000,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return accelerator_rows.read(out)


def test_it_runs_where_packages_are_absent_and_says_which(tmp_path):
    out = tmp_path / "rows"
    out.with_suffix(".jsonl").write_text("")
    names = ("entropy", "sinkhorn_plan", "info_nce over devices, pmap")
    given = [f"--only={name}" for name in names]
    rows = script(out, "--stage=kernels", f"--deadline={time.time() + 3000}", *given, absent=ABSENT)
    found = {row["case"]: row for row in rows}
    assert found["sinkhorn_plan"]["status"] == "skipped"
    assert "ott" in found["sinkhorn_plan"]["note"]
    for name in ("entropy", "sinkhorn_plan, streamed"):
        assert found[name]["status"] == "ok" and 0 <= found[name]["float32"] <= 0.05, name
    over = found["info_nce over devices, pmap"]
    assert over["devices"] == 8 and over["status"] == "ok"
    table = out.with_suffix(".md").read_text()
    assert "## kernels" in table and table.count("\n| ") == len(rows) + 1


@pytest.mark.slow  # a program for every kernel, twice, and three trainings of every configuration
def test_every_stage_runs_at_tiny_sizes(tmp_path):
    rows = script(tmp_path / "rows", "--budget_s=2900")
    wrong = [row for row in rows if row["status"] == "failed"]
    assert not wrong
    stages = {
        stage: {r["case"] for r in rows if r["stage"] == stage}
        for stage in ("machine", "kernels", "deterministic", "times", "memory")
    }
    assert stages["kernels"] >= EXAMPLES.keys() and stages["deterministic"] >= EXAMPLES.keys()
    assert {"product, highest", "product, default", "product, bf16", "copy"} <= stages["machine"]
    resumed = {row["case"] for row in rows if row["case"].endswith("resumed")}
    assert len(resumed) == 9
    floors = [row for row in rows if row["stage"] == "times" and row["status"] == "ok"]
    assert len(floors) == len(stages["times"]) and all(row["of_floor"] > 0 for row in floors)
    assert all(row["formula_mib"] > 0 for row in rows if row["stage"] == "memory")
    skipped = {row["note"] for row in rows if row["status"] == "skipped"}
    assert not skipped


def test_a_gradient_that_is_off_in_one_entry_is_too_far(monkeypatch):
    """With the kernel as it is the row is in order."""
    assert accelerator_checks.checked("entropy", SIZES).get("status") is None
    exact = accelerator_checks.evaluated

    def off(name, arrays, products):
        outputs, gradients = exact(name, arrays, products)
        if all(a.dtype != np.float64 for a in arrays.values()):
            gradients = {"logits": gradients["logits"].astype(np.float32)}
            gradients["logits"][0, 0] += 0.01
        return outputs, gradients

    monkeypatch.setattr(accelerator_checks, "evaluated", off)
    row = accelerator_checks.checked("entropy", SIZES)
    assert row["status"] == "failed" and "float32" in row["note"]


def test_how_far_apart_two_results_are():
    apart = accelerator_checks.difference
    wanted = (np.array([4.0, -np.inf]), {"x": np.array([1e-9])})
    assert apart(wanted, wanted, False, 0.1) == 0
    assert apart((np.array([3.0, -np.inf]), wanted[1]), wanted, False, 0.1) == pytest.approx(0.25)
    # What cancels is measured against the rest, not against its own rounding.
    assert apart((wanted[0], {"x": np.array([2e-9])}), wanted, False, 0.1) < 1e-6
    for broken in (np.array([np.nan, -np.inf]), np.array([4.0, 0.0])):
        assert apart((broken, wanted[1]), wanted, False, 0.1) == np.inf
    # A kernel that chooses: the share of what is chosen otherwise.
    assert apart((np.array([3.0, -np.inf]), wanted[1]), wanted, True, 0.1) == 0.5


def test_whatever_a_case_ends_with_is_a_row_and_the_next_one_runs(tmp_path):
    out = tmp_path / "rows"
    rows = Rows(out, "stage", deadline=time.time() + 60, only=("case",))

    def ends(error):
        def function():
            raise error

        return function

    rows.case("case 1", ends(ModuleNotFoundError("no", name="ott")))
    rows.case("case 2", ends(Skipped("one device")))
    rows.case("case 3", ends(RuntimeError("the memory\nis full | gone")))
    rows.case("another", ends(RuntimeError("is not asked for")))
    rows.case("case 4", lambda: {"ours_ms": 0.123456})
    rows.deadline = time.time() - 1
    rows.case("case 5", lambda: {})
    found = accelerator_rows.read(out)
    assert [row["status"] for row in found] == ["skipped", "skipped", "failed", "ok", "skipped"]
    notes = [row.get("note", "") for row in found]
    assert notes[0] == "ott is not installed" and notes[1] == "one device"
    assert notes[2].startswith("RuntimeError: the memory is full") and "time" in notes[4]
    table = out.with_suffix(".md").read_text()
    assert "0.123" in table and "full / gone" in table


def test_the_floor_is_the_longer_of_products_and_memory():
    ceilings = {"highest": 1e12, "default": 2e12, "copy": 1e9}
    floor = accelerator_times._floor
    products = floor(4.0, 2e9, 1e3, "highest", ceilings)
    assert products["floor_ms"] == pytest.approx(2.0) and products["of_floor"] == pytest.approx(0.5)
    assert floor(4.0, 2e9, 1e3, "default", ceilings)["floor_ms"] == pytest.approx(1.0)
    memory = floor(10.0, 2e9, 5e6, "highest", ceilings)
    assert memory["floor_ms"] == pytest.approx(5.0) and memory["bound"].startswith("memory")


def test_operations_of_a_step_of_cmcr_are_those_that_xla_counts():
    """Of the products alone, in a step that keeps the whole matrix of logits."""
    import jax
    import jax.numpy as jnp

    batch, dim, hidden = 64, 8, 16

    def loss(weights, streams):
        projected = [jax.nn.relu(s @ w) @ v for s, (w, v) in zip(streams, weights, strict=True)]
        first, second = (p.reshape(2, batch, dim) for p in projected)
        logits = jnp.einsum("sid,sjd->sij", first, second)
        return jnp.sum(logits * logits)

    weights = [(jnp.ones((dim, hidden)), jnp.ones((hidden, dim)))] * 2
    streams = [jnp.ones((2 * batch, dim))] * 2
    program = jax.jit(jax.grad(loss)).lower(weights, streams).compile()
    flops, _ = accelerator_times.cmcr_work(batch, dim, hidden)
    assert program.cost_analysis()["flops"] == pytest.approx(flops, rel=0.2)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_pytorchs_sides_agree(monkeypatch):
    import accelerator_torch
    import cases
    import ours

    monkeypatch.setattr(ours, "DIM", 32)
    monkeypatch.setattr(ours, "CODES", 5)
    inputs = ours.codebook_inputs(24)
    both = (ours.quantize(inputs, None)(), accelerator_torch.codebook_step(inputs)())
    assert cases.largest_difference(*both)["difference"] < 1e-4
    inputs = ours.transport_inputs(24) | {"iterations": 3000}  # of the peer, to the solution
    plan = ours.plan_to(inputs, np.float32(1e-6))()
    theirs = accelerator_torch.log_domain_plan(inputs)()
    assert cases.largest_difference(plan, theirs)["difference"] < 1e-3
