"""Full and read-only disks: a clear error, what was there before is whole, nothing half is left."""

import dataclasses
import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import untrusted
from containers import CONFIG, MEASUREMENT, STATE, unit_rows

from unirep_jax.connect import Connector
from unirep_jax.connect.connector import Space
from unirep_jax.data import load_features, save_features
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.data.mapped import scratch_array
from unirep_jax.evaluation.measurements import read_measurements, write_measurements
from unirep_jax.train.checkpoints import CheckpointError, Checkpoints
from unirep_jax.train.logs import RunLog
from unirep_jax.workdir import write_config


def log(folder: Path) -> None:
    made = RunLog(folder, start_step=10)
    made.close()


def connector(folder: Path) -> None:
    maps = ((np.ones((300, 300), np.float32),), (np.ones(300, np.float32),))
    space = Space(("text",), *maps, final_relu=False)
    Connector({"first": space}).save(folder / "connector.safetensors")


# What writes into a folder, perhaps for the second time; each needs more than 100 KB.
WRITERS = {
    "feature file": lambda f: save_features(f / "set.npz", untrusted.feature_set(4000)),
    "feature folder": lambda f: save_features(f / "new", untrusted.feature_set(4000)),
    "bank": lambda f: write_bank(f / "bank.npy", unit_rows(9000), name="bank"),
    "results": lambda f: write_measurements(f / "results.jsonl", [MEASUREMENT] * 2000),
    "configuration": lambda f: write_config(f / "run", CONFIG_OF_100_KB),
    "log": log,
    "connector": connector,
}
CONFIG_OF_100_KB = CONFIG.copy_and_resolve_references()
CONFIG_OF_100_KB.note = "x" * 100_000


def before(folder: Path) -> None:
    """A folder with a little of everything."""
    save_features(folder / "set.npz", untrusted.feature_set())
    write_bank(folder / "bank.npy", unit_rows(3), name="bank")
    write_measurements(folder / "results.jsonl", [MEASUREMENT])
    (folder / "connector.safetensors").write_bytes(b"the connector before")
    lines = "".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(12))
    (folder / "metrics.jsonl").write_text(lines)
    (folder / "run").mkdir()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("options", ["full", "read-only"])
def test_what_cannot_be_written_is_an_error_and_leaves_everything(small_disk, name, options):
    disk = small_disk("size=300k")
    before(disk)
    if options == "full":
        untrusted.fill(disk)
    else:
        small_disk("size=300k,ro")
    there = untrusted.tree(disk)
    with pytest.raises(OSError) as caught:
        WRITERS[name](disk)
    assert caught.value.errno == (errno.ENOSPC if options == "full" else errno.EROFS)
    new = untrusted.tree(disk).items() - there.items()
    assert untrusted.tree(disk).items() >= there.items() and not any(content for _, content in new)
    assert load_features(disk / "set.npz") and open_bank(disk / "bank.npy", verify=True)
    assert read_measurements(disk / "results.jsonl") == [MEASUREMENT]


def test_what_could_not_be_written_is_written_once_there_is_room(small_disk):
    disk = small_disk("size=300k")
    before(disk)
    untrusted.fill(disk)
    for name in WRITERS:
        with pytest.raises(OSError, match="No space left"):
            WRITERS[name](disk)
    small_disk("size=64m")
    for name in WRITERS:
        WRITERS[name](disk)
    assert len(load_features(disk / "new").label) == 4000


def test_scratch_space_that_is_not_there_is_an_error_and_not_the_end_of_the_process(small_disk):
    with pytest.raises(OSError, match="No space left"):
        scratch_array((1000, 1000), np.float32, small_disk("size=300k"))


# Orbax writes in threads, whose errors Python also reports when it throws them away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("options", ["full", "read-only"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(small_disk, options):
    disk = small_disk("size=400k")
    with Checkpoints(disk / "checkpoints") as checkpoints:
        checkpoints.save(10, STATE)
    large = dict(STATE, codebook=np.random.default_rng(2).standard_normal((512, 512)))
    if options == "read-only":
        small_disk("size=400k,ro")
    with (
        pytest.raises(CheckpointError, match=rf"{disk}/checkpoints: .*(No space|Read-only)"),
        Checkpoints(disk / "checkpoints") as checkpoints,
    ):
        checkpoints.save(20, large)
    small_disk("size=64m,rw")
    with Checkpoints(disk / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 10
        np.testing.assert_array_equal(
            checkpoints.restore(STATE).state["codebook"], STATE["codebook"]
        )
        checkpoints.save(20, large)
    with Checkpoints(disk / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 20


def test_measurements_of_a_new_judgement_replace_the_old_ones_whole(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    write_measurements(path, [MEASUREMENT])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_measurements(path, [dataclasses.replace(MEASUREMENT, value=0.1)] * 9)
    assert read_measurements(path) == [MEASUREMENT]
    assert [p.name for p in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_file_that_was_replaced_is_on_the_disk_by_content_and_then_by_name(tmp_path, monkeypatch):
    """After a power cut it is the old one or the new one, and never an empty one."""
    path, synced, fsync = tmp_path / "results.jsonl", [], os.fsync

    def note(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", note)
    write_measurements(path, [MEASUREMENT])
    assert synced == [("file", False), ("folder", True)]


def test_a_checkpoint_is_on_the_disk_before_an_older_one_is_removed(tmp_path, monkeypatch):
    synced, fsync = {}, os.fsync

    def note(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[path] = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
        fsync(descriptor)

    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(10, STATE)
        monkeypatch.setattr("os.fsync", note)
        checkpoints.save(20, STATE)
        checkpoints.wait()
    for step, there in ((10, {"10"}), (20, {"20"})):
        folder = tmp_path / "checkpoints" / str(step)
        before = {path: found for path, found in synced.items() if folder in (path, *path.parents)}
        assert folder in before and folder / "_CHECKPOINT_METADATA" in before
        assert all(found == there for found in before.values())
    assert tmp_path / "checkpoints" in synced
