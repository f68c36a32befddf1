"""Connecting two spaces: what training sees, what is measured, and the command line."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from unirep_jax import connect, experiment
from unirep_jax.data import FeatureSet, save_features
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.methods import CMCR
from unirep_jax.methods.method import Embedding
from unirep_jax.methods.streams import halves, keep
from unirep_jax.tasks.connect.gaps import modality_gap
from unirep_jax.tasks.connect.task import Connection, linear_connection

ROOT = Path(__file__).parents[2]
NAMES = {"first": ("caption_1", "camera_1"), "second": ("caption_2", "sensor_2")}


class Encoder:
    """Vectors that tell space, modality and example."""

    def __init__(self, number, modalities, count):
        rng = np.random.default_rng(number)
        made = {m: rng.normal(size=(count, 6)).astype(np.float32) for m in modalities}
        self.vectors = {m: x / np.linalg.norm(x, axis=1, keepdims=True) for m, x in made.items()}

    def represent(self, modality, features, *, present):
        return Embedding.of_vectors(self.vectors[modality])


def pretraining(calls):
    """Makes encoders, and records what they were given."""

    def pretrain(data, modalities, rows, *, seed):
        calls.append((modalities, rows, seed))
        return Encoder(len(calls), modalities, len(rows))

    return pretrain


def test_the_spaces_have_no_example_in_common_and_seeds_of_their_own(paired_features):
    calls = []
    CMCR(**NAMES).encoded(paired_features, pretraining(calls), seed=3)
    (first, rows_1, seed_1), (second, rows_2, seed_2) = calls
    assert (first, second) == (("caption", "camera"), ("caption", "sensor"))
    assert not (rows_1 & rows_2).any() and seed_1 != seed_2
    np.testing.assert_array_equal(rows_1 | rows_2, paired_features.train)


def test_spaces_that_are_rotations_of_one_another_are_connected_by_cca(rng):
    """The pairs of the shared modality tell the rotation; those of the others are never used."""
    count, dim = 400, 6
    hidden = rng.normal(size=(count, dim)) * np.linspace(2, 1, dim)
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    near = lambda: (hidden + 0.05 * rng.normal(size=hidden.shape)).astype(np.float32)
    streams = {
        "caption_1": near(),
        "camera_1": near() + 3,
        "caption_2": near() @ turn,
        "sensor_2": near() @ turn - 5,  # a gap between modalities
    }
    streams = {m: x.astype(np.float32) for m, x in streams.items()}
    data = FeatureSet.from_arrays("s", streams, np.full(count, -1), np.arange(count) < 300)
    test = keep(data, ~data.train)
    placed = linear_connection(CMCR(**NAMES), data, test)
    nearest = (placed["camera_1"] @ placed["sensor_2"].T).argmax(1)
    assert (nearest == np.arange(100)).mean() > 0.9
    np.testing.assert_allclose(np.linalg.norm(placed["camera_1"], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("consistency", ["softmax", "argmax", "random"])
def test_training_streams_are_made_of_the_memory_and_test_streams_are_the_examples_own(
    paired_features, consistency
):
    calls = []
    method = CMCR(**NAMES, consistency=consistency)
    streams, routes = method.encoded(paired_features, pretraining(calls), seed=0)
    assert {m: [stream for _, stream in way] for m, way in routes.items()} == {
        "caption": ["caption_1", "caption_2"],
        "camera": ["camera_1"],
        "sensor": ["sensor_2"],
    }
    assert streams.modalities == ("caption_1", "camera_1", "caption_2", "sensor_2")
    (_, rows, _), _ = calls
    space = Encoder(1, ("caption", "camera"), len(rows)).vectors  # the same numbers again
    train, memory = streams.train, space["camera"][rows]
    np.testing.assert_array_equal(streams.features["camera_1"][~train], space["camera"][~train])
    found, texts = streams.features["camera_1"][train], space["caption"][train]
    if consistency == "softmax":
        weights = np.exp((texts @ memory.T).astype(np.float64) / 0.01)
        expected = weights @ memory / weights.sum(1, keepdims=True)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    elif consistency == "argmax":
        np.testing.assert_array_equal(found, memory[(texts @ memory.T).argmax(1)])
    else:
        assert all((row == memory).all(1).any() for row in found)
        assert len(np.unique(found, axis=0)) > 5


def test_examples_that_lack_a_modality_take_no_part(paired_features):
    present = {m: p.copy() for m, p in paired_features.present.items()}
    present["sensor"][[1, 70]] = False
    data = dataclasses.replace(paired_features, present=present)
    streams = CMCR(**NAMES).encoded(data, pretraining([]), seed=0).data
    assert len(streams.label) == len(data.label) - 2
    assert all(p.all() for p in streams.present.values())


def test_halves_are_disjoint_and_depend_on_the_seed():
    rows = np.arange(21) % 3 > 0
    one, two = halves(rows, 0)
    assert not (one & two).any() and ((one | two) == rows).all() and one.sum() == 7
    assert not np.array_equal(one, halves(rows, 1)[0])


def test_batches_are_drawn_from_the_four_streams_of_training_examples(paired_features):
    task = Connection()
    seen = task.prepare(paired_features, CMCR(**NAMES), pretraining([]), 0).seen
    pool = task.pools(seen, 16, 0)
    assert {*pool.modalities} == {"caption_1", "camera_1", "caption_2", "sensor_2"}
    assert seen.train[pool.rows].all()
    with pytest.raises(ValueError, match="batch_size=65 is not within 1 … 64"):
        task.pools(seen, 65, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"consistency": "hard"}, "consistency='hard'"),
        ({**NAMES, "first": ("caption_1", "radar_1")}, "'radar'"),
    ],
)
def test_impossible_settings_are_refused_by_name(paired_features, settings, message):
    with pytest.raises(ValueError, match=message):
        CMCR(**settings).encoded(paired_features, pretraining([]), seed=0)


def test_a_run_from_raw_features_measures_everything_and_exports_its_connector(
    paired_features, tmp_path, standard_promotion
):
    save_features(tmp_path / "toy.npz", paired_features)
    config = runpy.run_path(str(ROOT / "configs" / "connect.py"))["get_config"]()
    changes = {
        "data.name": "features",
        "data.path": str(tmp_path / "toy.npz"),
        "steps": 40,
        "batch_size": 32,
        "method.first": ("caption_1", "camera_1"),
        "method.second": ("caption_2", "sensor_2"),
        "method.dim": 8,
        "method.hidden": 16,
        "pretrain.steps": 20,
        "pretrain.batch_size": 16,
        "pretrain.method.dim": 8,
        "pretrain.method.layers": 0,
        "pretrain.train.log_every": 10,
        "pretrain.train.checkpoint_every": 20,
    }
    config.update_from_flattened_dict(changes)
    workdir = experiment.run(config, tmp_path / "run")
    rows = read_measurements(workdir / "results.jsonl")
    assert {m.method for m in rows} == {
        "cmcr",
        "no connection",
        "cca",
        "trained on pairs",
        "CCA of true pairs",
        "chance",
    }
    searched = [m for m in rows if m.metric != "modality_gap"]
    assert {(m.source, m.target) for m in searched} == {
        ("camera_1", "sensor_2"),
        ("sensor_2", "camera_1"),
    }
    assert {m.method for m in rows if m.metric == "modality_gap"} == {"cmcr", "no connection"}
    assert {"recall_at_1", "recall_at_5", "map", "class_map"} <= {m.metric for m in rows}
    connector = connect.load(workdir / "connector.safetensors")
    assert connector.spaces["second"].modalities == ("caption", "sensor")
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"shared", "other", "gap_first", "gap_second"} <= last.keys() and last["step"] == 40
    for name in ("connected_map", "spaces_map", "training_curves"):
        assert (workdir / "figures" / f"{name}.png").stat().st_size > 5000
    # A finished run is not trained again.
    before = (workdir / "results.jsonl").stat().st_mtime_ns
    experiment.run(config, tmp_path / "run")
    assert (workdir / "results.jsonl").stat().st_mtime_ns == before


def test_streams_of_spaces_with_different_dimensions_are_connected_as_they_are(
    tmp_path, standard_promotion
):
    rng = np.random.default_rng(0)
    streams = {
        m: rng.normal(size=(48, dim)).astype(np.float32)
        for m, dim in (("text_1", 6), ("image_1", 6), ("text_2", 10), ("audio_2", 10))
    }
    data = FeatureSet.from_arrays("banks", streams, np.full(48, -1), np.arange(48) < 32)
    save_features(tmp_path / "banks.npz", data)
    config = runpy.run_path(str(ROOT / "configs" / "connect.py"))["get_config"]("banks")
    config.update_from_flattened_dict(
        {
            "data.name": "features",
            "data.path": str(tmp_path / "banks.npz"),
            "steps": 20,
            "batch_size": 16,
            "method.dim": 8,
            "method.hidden": 8,
            "train.checkpoint_every": 20,
        }
    )
    workdir = experiment.run(config, tmp_path / "run")
    rows = read_measurements(workdir / "results.jsonl")
    methods = {m.method for m in rows if m.metric == "recall_at_1"}
    assert methods == {"cmcr", "cca", "chance"}, "no cosine of 6 and 10 numbers"
    assert all(m.num_examples == 16 and np.isfinite(m.value) for m in rows)
    assert not (workdir / "figures" / "spaces_map.png").exists()


def test_the_gap_is_the_distance_of_centroids_of_unit_vectors():
    x = np.array([[2.0, 0.0], [0.0, 3.0]])
    assert modality_gap(x, x[::-1]) == 0
    np.testing.assert_allclose(modality_gap(x[:1], -x[:1]), 2)
    np.testing.assert_allclose(modality_gap(x, -x), 2**0.5)


def test_the_paper_s_second_connection_has_its_own_training():
    get_config = runpy.run_path(str(ROOT / "configs" / "connect.py"))["get_config"]
    paper, ulip = get_config("banks,paper"), get_config("banks,ulip")
    assert (paper.batch_size, paper.train.lr) == (10240, 1e-3)
    assert (ulip.batch_size, ulip.train.lr) == (8192, 5e-3)
    assert ulip.steps * ulip.batch_size == pytest.approx(24 * 1_281_167, rel=0.01)
    assert paper.steps * paper.batch_size == pytest.approx(36 * 2_330_000, rel=0.01)
    assert (ulip.method.noise_variance, ulip.method.weight_intra) == (0.002, 0.4)


def test_banks_of_any_modalities_are_connected_by_their_names(tmp_path, standard_promotion):
    rng = np.random.default_rng(0)
    for part, count in (("train", 64), ("test", 16)):
        (tmp_path / "banks" / part).mkdir(parents=True)
        for name in ("image_1", "points_1", "image_2", "text_2"):
            x = rng.normal(size=(count, 8)).astype(np.float32)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            np.save(tmp_path / "banks" / part / f"{name}.npy", x)
    config = runpy.run_path(str(ROOT / "configs" / "connect.py"))["get_config"]("banks")
    config.update_from_flattened_dict(
        {
            "data.path": str(tmp_path / "banks"),
            "steps": 20,
            "batch_size": 16,
            "method.dim": 8,
            "method.hidden": 8,
            "train.checkpoint_every": 20,
        }
    )
    folder = experiment.run(config, tmp_path / "run")
    rows = read_measurements(folder / "results.jsonl")
    searched = {(m.source, m.target) for m in rows if m.metric == "recall_at_1"}
    assert searched == {("points_1", "text_2"), ("text_2", "points_1")}
    gaps = {(m.method, m.source, m.target) for m in rows if m.metric == "modality_gap"}
    before = {("no connection", "image_1", "points_1"), ("no connection", "image_2", "text_2")}
    assert before <= gaps and ("cmcr", "points_1", "text_2") in gaps
    assert "gap between modalities" in (folder / "results.md").read_text("utf-8")
    assert (folder / "figures" / "answers.png").read_bytes().startswith(b"\x89PNG")
