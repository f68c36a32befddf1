"""The aggregation job: its result, its refusals, and that stopping it changes nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from unirep_jax.aggregate import Interrupted, Job, run
from unirep_jax.aggregate.devices import Aggregator, random_items, rows_that_fit
from unirep_jax.aggregate.parts import Parts
from unirep_jax.data import FeatureFileError
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.losses import random_aggregate, soft_aggregate

QUERY, ITEM, DIM = 41, 90, 8
TEMPERATURE = 0.1


def unit_rows(count, seed, dtype=np.float32, dim=DIM):
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


@pytest.fixture
def job(tmp_path):
    """Six shards of seven queries, over a memory in three pieces."""

    def make(dtype=np.float32, **changes):
        write_bank(tmp_path / "text.npy", unit_rows(QUERY, 1, dtype), name="texts")
        write_bank(tmp_path / "image.npy", unit_rows(ITEM, 2, dtype), name="images")
        settings = {
            "queries": tmp_path / "text.npy",
            "memory": tmp_path / "image.npy",
            "out": tmp_path / "found.npy",
            "temperature": TEMPERATURE,
            "shard_rows": 7,
            "memory_rows": 37,
            "memory_block": 16,
        }
        return Job(**settings | changes)

    return make


def dense(queries, memory, consistency):
    """In float64, with every similarity."""
    queries, memory = queries.astype(np.float64), memory.astype(np.float64)
    logits = queries @ memory.T / TEMPERATURE
    if consistency == "argmax":
        return memory[np.argmax(logits, axis=1)]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights @ memory / weights.sum(axis=1, keepdims=True)


def silent(_):
    pass


# -- the result --------------------------------------------------------------------------------


@pytest.mark.parametrize("consistency", ["softmax", "argmax"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float16, 1e-3)])
def test_the_result_is_the_dense_one_as_a_bank_of_means(job, consistency, dtype, tolerance):
    made = job(dtype, consistency=consistency)
    run(made, report=silent)
    bank = open_bank(made.out, verify=True)
    assert not bank.unit and bank.embeddings.dtype == dtype and bank.name == "found"
    assert bank.about.startswith(f"{consistency} of images for texts")
    expected = dense(unit_rows(QUERY, 1, dtype), unit_rows(ITEM, 2, dtype), consistency)
    np.testing.assert_allclose(bank.embeddings, expected, rtol=0, atol=tolerance)
    assert not made.parts.exists()


def test_random_items_are_those_of_the_kernel_and_depend_on_the_seed_alone(job):
    first, again = (
        job(consistency="random", seed=3),
        job(consistency="random", seed=3, shard_rows=50),
    )
    run(first, report=silent)
    found = np.array(open_bank(first.out).embeddings)
    queries, memory = unit_rows(QUERY, 1), unit_rows(ITEM, 2)
    np.testing.assert_array_equal(found, random_aggregate(queries, memory, key=jax.random.key(3)))
    first.out.unlink()
    run(again, report=silent)
    np.testing.assert_array_equal(open_bank(first.out).embeddings, found)
    assert (random_items(memory, np.arange(QUERY), seed=4) != found).any()


@pytest.mark.parametrize("consistency", ["softmax", "argmax"])
def test_devices_pieces_and_calls_do_not_show_in_the_result(consistency):
    queries, memory = unit_rows(QUERY, 1), unit_rows(ITEM, 2)
    settings = {"consistency": consistency, "temperature": TEMPERATURE, "memory_block": 16}
    whole = Aggregator(
        memory, query_rows=QUERY, memory_rows=ITEM, devices=jax.devices()[:1], **settings
    )
    split = Aggregator(memory, query_rows=12, memory_rows=25, devices=jax.devices()[:4], **settings)
    assert (whole.pieces, split.pieces) == (1, 4)
    for given in (queries, queries[:5]):
        np.testing.assert_allclose(split(given), whole(given), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(whole(queries[:5]), whole(queries)[:5])
    if consistency == "softmax":
        expected = soft_aggregate(queries, memory, temperature=TEMPERATURE)
        np.testing.assert_allclose(whole(queries), expected, rtol=1e-5, atol=1e-6)


def test_of_equally_similar_items_in_two_pieces_the_first_is_taken():
    memory = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    memory[:, 1] += np.arange(12) % 4 * 0.1  # tells copies apart; the query does not see it
    found = Aggregator(
        memory, consistency="argmax", temperature=1.0, query_rows=1, memory_rows=3, memory_block=2
    )(np.array([[0, 0, 1]], np.float32))
    np.testing.assert_array_equal(found, memory[8:9])


def test_one_piece_is_as_much_of_a_memory_as_fits():
    assert rows_that_fit(unit_rows(ITEM, 2)) == ITEM
    huge = np.broadcast_to(np.float32(0), (1 << 40, 8))  # no bytes of its own
    assert 1 <= rows_that_fit(huge) < len(huge)


# -- stopping and going on ----------------------------------------------------------------------


def unbroken(made):
    run(made, report=silent)
    return [(made.out.with_suffix(suffix)).read_bytes() for suffix in (".npy", ".json")]


def stop_in_shard(monkeypatch, number, act):
    """Calls `act` in the course of a shard, before it is written."""
    write = Parts.write

    def writing(self, shard, rows):
        if shard == number:
            act()
        write(self, shard, rows)

    monkeypatch.setattr(Parts, "write", writing)


def power_cut():
    raise RuntimeError("power cut")


@pytest.mark.parametrize("consistency", ["softmax", "argmax", "random"])
def test_a_broken_off_job_continues_and_gives_the_same_bytes(job, monkeypatch, consistency):
    made = job(np.float16, consistency=consistency, memory_rows=0)
    expected = unbroken(made)
    for suffix in (".npy", ".json"):
        made.out.with_suffix(suffix).unlink()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        stop_in_shard(patch, 3, power_cut)
        run(made, report=silent)
    assert not made.out.exists()
    kept = {file: file.stat().st_mtime_ns for file in made.parts.glob("0*.npy")}
    assert len(kept) == 3
    lines = []
    with monkeypatch.context() as patch:
        stop_in_shard(patch, 2, power_cut)  # which must not be computed again
        run(made, report=lines.append)
    assert "3 of 6 to do here" in "\n".join(lines)
    assert [made.out.with_suffix(suffix).read_bytes() for suffix in (".npy", ".json")] == expected


@pytest.fixture
def heeding_interrupts():
    """SIGINT as usual, which is ignored where tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_job_after_the_shard_under_way(job, monkeypatch, number):
    made = job(consistency="random")
    before = signal.getsignal(number)
    stop_in_shard(monkeypatch, 1, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match=f"{number.name}: after 2 of 6 shards"):
        run(made, report=silent)
    assert len(list(made.parts.glob("0*.npy"))) == 2
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("heeding_interrupts")
def test_a_second_interruption_does_not_wait_for_the_shard(job, monkeypatch):
    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.25)  # what comes sooner is an echo of the first

    made = job(consistency="random")
    stop_in_shard(monkeypatch, 1, twice)
    with pytest.raises(KeyboardInterrupt):
        run(made, report=silent)
    assert len(list(made.parts.glob("0*.npy"))) == 1


def test_a_complete_result_is_not_computed_again_and_never_replaced_by_another(job, monkeypatch):
    made = job(consistency="random")
    expected = unbroken(made)
    lines = []
    stop_in_shard(monkeypatch, 0, power_cut)
    run(made, report=lines.append)
    assert lines == [f"{made.out} is complete"]
    with pytest.raises(FeatureFileError, match=r"found\.npy: expected no file, or this result"):
        run(job(consistency="random", seed=1), report=silent)
    assert made.out.read_bytes() == expected[0]


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("consistency", {"consistency": "argmax"}),
        ("temperature", {"temperature": 0.2}),
        ("shard_rows", {"shard_rows": 8}),
        ("memory_rows", {"memory_rows": 38}),
        ("memory_block", {"memory_block": 17}),
    ],
)
def test_shards_of_another_job_are_refused_by_name(job, monkeypatch, key, changes):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        stop_in_shard(patch, 1, power_cut)
        run(job(), report=silent)
    with pytest.raises(FeatureFileError, match=rf"found\.npy\.parts: {key}: expected .*remove"):
        run(job(**changes), report=silent)


@pytest.mark.parametrize("side_files", [True, False])
@pytest.mark.parametrize("changed", ["queries", "memory"])
def test_shards_of_other_inputs_are_refused(job, changed, side_files):
    made = job()
    path = getattr(made, changed)
    if not side_files:
        path.with_suffix(".json").unlink()
    _begin(made)
    rows = np.array(open_bank(path).embeddings)
    rows[-1] = -rows[-1]
    np.save(path, rows)  # of the same shape and size
    if side_files:
        write_bank(path, rows, name="x")
    with pytest.raises(FeatureFileError, match=rf"parts: {changed}: expected"):
        run(made, report=silent)


def _begin(made):
    """The first shard alone."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError):
        stop_in_shard(patch, 1, power_cut)
        run(made, report=silent)


def test_what_is_left_open_is_taken_from_the_shards_that_are_there(job, monkeypatch):
    _begin(job(memory_rows=37))
    monkeypatch.setattr("unirep_jax.aggregate.job.rows_that_fit", lambda memory: 11)
    made = job(memory_rows=0)
    run(made, report=silent)
    expected = dense(unit_rows(QUERY, 1), unit_rows(ITEM, 2), "softmax")
    np.testing.assert_allclose(open_bank(made.out).embeddings, expected, atol=1e-6)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": "mine"}'])
def test_a_folder_of_no_job_is_refused(job, text):
    made = job()
    made.parts.mkdir()
    (made.parts / "settings.json").write_text(text)
    with pytest.raises(FeatureFileError, match=r"found\.npy\.parts"):
        run(made, report=silent)


def test_a_damaged_shard_is_named_when_all_are_put_together(job):
    made = job(consistency="random")
    _begin(made)
    (made.parts / "000000.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(FeatureFileError, match=r"000000\.npy: expected a finished shard"):
        run(made, report=silent)
    np.save(made.parts / "000000.npy", np.zeros((6, DIM), np.float32))
    with pytest.raises(FeatureFileError, match=r"000000\.npy: expected float32 \(7, 8\), found"):
        run(made, report=silent)
    assert not made.out.exists()


# -- several processes --------------------------------------------------------------------------


def test_several_processes_share_the_shards_and_the_last_one_puts_them_together(job):
    expected = unbroken(job())
    for suffix in (".npy", ".json"):
        job().out.with_suffix(suffix).unlink()
    lines = []
    run(job(process_index=1, process_count=2), report=lines.append)
    assert lines[-1] == "3 of 6 shards are left to other processes"
    made = job(process_index=0, process_count=2)
    assert sorted(file.name for file in made.parts.glob("0*")) == [
        "000001.npy",
        "000003.npy",
        "000005.npy",
    ]
    run(made, report=lines.append)
    assert lines[-1] == f"{made.out} is complete"
    assert [made.out.with_suffix(suffix).read_bytes() for suffix in (".npy", ".json")] == expected


def test_only_one_process_puts_the_shards_together(job):
    made = job(consistency="random")
    _begin(made)
    parts = Parts(made.parts, {}, {})

    def while_another_tries(blocks):
        assert not Parts(made.parts, {}, {}).assemble(power_cut)

    assert parts.assemble(while_another_tries)
    assert not parts.assemble(power_cut)  # the folder is gone
    assert not made.parts.exists()


@pytest.mark.parametrize("overtaken", [False, True])
def test_processes_that_start_together_agree_on_the_settings(tmp_path, overtaken):
    shape = {"count": 5, "dim": 2, "dtype": "float32", "shard_rows": 2, "memory_rows": None}
    first, second = (Parts(tmp_path / "parts", shape, {"memory_rows": rows}) for rows in (10, 20))
    assert second.settings["memory_rows"] == 20
    first.make()
    with pytest.MonkeyPatch.context() as patch:
        if overtaken:  # the other one made the folder right after this one looked
            looks = iter([False, True])
            patch.setattr(Path, "exists", lambda path: next(looks))
        second.make()
    assert second.settings["memory_rows"] == first.settings["memory_rows"] == 10
    assert [file.name for file in tmp_path.iterdir()] == ["parts"]


# -- refusals, estimate, command line ------------------------------------------------------------


def test_settings_that_make_no_sense_are_refused_by_name(job):
    for changes, pattern in (
        ({"consistency": "mean"}, "consistency='mean' is none of"),
        ({"temperature": 0.0}, "temperature=0.0 is not positive"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"shard_rows": 0}, "shard_rows=0 is less than 1"),
        ({"memory_block": 0}, "memory_block=0"),
        ({"memory_rows": -1}, "memory_rows=-1 is negative"),
        ({"process_index": 2, "process_count": 2}, "process_index=2 is not within 0 … 1"),
        ({"out": Path("absent/found.npy")}, "out=absent/found.npy is no .npy file in a folder"),
        ({"out": Path("found.npz")}, r"out=found\.npz"),
        ({"out": job().memory}, "side file of another bank"),
    ):
        with pytest.raises(ValueError, match=pattern):
            job(**changes)


def test_banks_that_do_not_belong_together_are_refused(job, tmp_path):
    write_bank(tmp_path / "wide.npy", unit_rows(4, 1, dim=9), name="x")
    with pytest.raises(FeatureFileError, match=r"wide\.npy: expected 8 dimensions as in .*text"):
        run(job(memory=tmp_path / "wide.npy"), report=silent)
    write_bank(tmp_path / "means.npy", unit_rows(4, 1) * 0.5, name="x", unit=False)
    with pytest.raises(FeatureFileError, match=r"means\.npy: expected a bank of unit vectors"):
        run(job(queries=tmp_path / "means.npy"), report=silent)
    assert not job().parts.exists()


def test_the_estimate_counts_arithmetic_and_bytes_and_starts_nothing(job):
    made, lines = job(np.float16), []
    run(made, estimate_only=True, report=lines.append)
    text = "\n".join(lines)
    work = 4 * QUERY * ITEM * DIM / 1e3
    assert f"{work:.3g} kFLOP" in text and "FLOP/s, as just measured" in text
    assert "41 × 8 float16, 656 B" in text and "90 × 8 float16, 1.44 kB" in text
    assert "6 of 6 to do here" in text and "3 of 37 items; 8.64 kB go to each device" in text
    assert not made.out.exists() and not made.parts.exists()


def command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "unirep_jax.aggregate", *flags],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_line_runs_estimates_and_names_mistakes_in_one_line(job):
    made = job()
    flags = [
        f"--queries={made.queries}",
        f"--memory={made.memory}",
        f"--out={made.out}",
        "--temperature=0.1",
        "--shard_rows=7",
    ]
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    assert re.search(r"work +118 kFLOP; at .*FLOP/s", done.stdout)
    assert done.stdout.endswith(f"{made.out} is complete\n")
    assert done.stderr == ""  # of less than half a minute
    expected = dense(unit_rows(QUERY, 1), unit_rows(ITEM, 2), "softmax")
    np.testing.assert_allclose(open_bank(made.out).embeddings, expected, atol=1e-6)
    assert json.loads(made.out.with_suffix(".json").read_text())["unit"] is False
    again = command(*flags, "--temperature=0.2")
    assert again.returncode == 1
    assert re.fullmatch(r"error: .*found\.npy: expected no file, .*\n", again.stderr)
