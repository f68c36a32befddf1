"""Every kind of file that the project reads: how to make a right one, and what reads it."""

import dataclasses
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import untrusted
from ml_collections import ConfigDict
from safetensors.numpy import save

from unirep_jax.aggregate.parts import Parts
from unirep_jax.connect import Connector, load
from unirep_jax.connect.connector import Space
from unirep_jax.data import load_features
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.data.builders._h5 import h5_array
from unirep_jax.data.builders._tables import records, table
from unirep_jax.data.builders._text_vectors import TextVectors
from unirep_jax.data.connection import load_connection
from unirep_jax.data.pickled_array import read_zipped_array
from unirep_jax.data.prepared import load_prepared
from unirep_jax.evaluation.measurements import Measurement, read_measurements, write_measurements
from unirep_jax.methods.out_of_modal_learner import read_learner
from unirep_jax.train.checkpoints import Checkpoints
from unirep_jax.workdir import verify_config, write_config

CONFIG = ConfigDict({"experiment": "oscmg", "steps": 10, "train": {"lr": 0.1}})
STATE = {"codebook": np.random.default_rng(1).standard_normal((64, 64)), "step": np.array(20)}
MEASUREMENT = Measurement("e", "m", "d", "s", "a", "b", "hos", 0.5, 10, 0, "honest")


class Container(NamedTuple):
    """make: a right one in a new folder; read: gives its content, or one clear error."""

    make: Callable[[Path], None]
    read: Callable[[Path], Any]


def unit_rows(count: int, dim: int = 4) -> np.ndarray:
    rows = np.random.default_rng(dim).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _prepared(folder: Path) -> None:
    untrusted.feature_folder(folder)
    (folder / "examples.txt").write_text("a\nb\nc\nd\n")
    (folder / "recipe.json").write_text(json.dumps({"train": "train"}))
    flags = {f"events/{m}": np.zeros((4, 2, 2), bool) for m in ("sight", "sound")}
    flags |= {f"labelled/{m}": np.ones(4, bool) for m in ("sight", "sound")}
    np.savez(folder / "events.npz", **flags)


def _connection(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part).mkdir()
        for name in ("text_1", "image_1", "text_2", "audio_2"):
            write_bank(folder / part / f"{name}.npy", unit_rows(5), name=name)
    np.save(folder / "test/label.npy", np.arange(5))


def _h5(folder: Path) -> None:
    with h5py.File(folder / "order.h5", "w") as file:
        file["order"] = np.arange(100)


def _zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "clip.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.pkl", pickle.dumps(np.arange(300.0)))


def _text_vectors(folder: Path) -> None:
    vectors = np.ones((2, 3, 4), np.float32)
    np.savez(folder / "text_vectors.npz", text=np.array(["a", "b"]), vector=vectors)


def _connector(folder: Path) -> None:
    maps = ((np.ones((3, 2), np.float32),), (np.ones(2, np.float32),))
    spaces = {n: Space(("text", n), *maps, final_relu=False) for n in ("first", "second")}
    Connector(spaces).save(folder / "connector.safetensors")


def _parts(folder: Path) -> Parts:
    settings = {"count": 4, "dim": 4, "dtype": "float32", "shard_rows": 2}
    return Parts(folder / "out.npy.parts", settings, {})


def _aggregation(folder: Path) -> None:
    parts = _parts(folder)
    parts.make()
    for shard in range(2):
        parts.write(shard, unit_rows(2))


def _checkpoints(folder: Path) -> None:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(20, STATE)  # alone: no other takes its place


def _restore(folder: Path) -> dict:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.restore(STATE).state


CONTAINERS = {
    "feature file": Container(
        lambda f: untrusted.feature_file(f / "set.npz"), lambda f: load_features(f / "set.npz")
    ),
    "feature folder": Container(
        lambda f: untrusted.feature_folder(f / "set"), lambda f: load_features(f / "set")
    ),
    "prepared folder": Container(_prepared, load_prepared),
    "bank": Container(
        lambda f: write_bank(f / "bank.npy", unit_rows(9), name="bank"),
        lambda f: open_bank(f / "bank.npy", verify=True),
    ),
    "bank in npz": Container(
        lambda f: np.savez(f / "bank.npz", rows=unit_rows(9)), lambda f: open_bank(f / "bank.npz")
    ),
    "bank in safetensors": Container(
        lambda f: (f / "bank.safetensors").write_bytes(save({"rows": unit_rows(9)})),
        lambda f: open_bank(f / "bank.safetensors"),
    ),
    "two spaces": Container(_connection, load_connection),
    "zipped pickle": Container(_zipped, lambda f: read_zipped_array(f / "clip.zip")),
    "h5": Container(_h5, lambda f: h5_array(f / "order.h5", "order", (None,))),
    "csv table": Container(
        lambda f: (f / "clips.csv").write_text("id,label\na,0\nb,1\n"),
        lambda f: table(f / "clips.csv", "id", "label"),
    ),
    "tsv table": Container(
        lambda f: (f / "clips.tsv").write_text("id\tlabel\na\t0\nb\t1\n"),
        lambda f: table(f / "clips.tsv", "id", "label", delimiter="\t"),
    ),
    "json records": Container(
        lambda f: (f / "clips.json").write_text(json.dumps([{"id": "a"}, {"id": "b"}])),
        lambda f: records(f / "clips.json", "id"),
    ),
    "text vectors": Container(_text_vectors, lambda f: TextVectors(f, (3, 4))),
    "connector": Container(_connector, lambda f: load(f / "connector.safetensors")),
    "learner": Container(
        lambda f: np.savez(f / "learner.npz", weight=np.ones((2, 2), np.float32)),
        lambda f: read_learner(f / "learner.npz", {"weight": np.ones((2, 2), np.float32)}),
    ),
    "aggregation": Container(_aggregation, lambda f: [x.copy() for x in _parts(f).blocks()]),
    "checkpoint": Container(_checkpoints, _restore),
    "configuration of a run": Container(
        lambda f: write_config(f, CONFIG), lambda f: verify_config(f, CONFIG)
    ),
    "results": Container(
        lambda f: write_measurements(
            f / "results.jsonl", [MEASUREMENT, dataclasses.replace(MEASUREMENT, seed=1)]
        ),
        lambda f: read_measurements(f / "results.jsonl"),
    ),
}
# Their files have lengths, hashes or a structure that a cut destroys; lines of text may lose some.
WHOLE = {*CONTAINERS} - {"csv table", "tsv table", "checkpoint", "results"}
