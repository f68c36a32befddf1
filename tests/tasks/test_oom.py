"""Out-of-modal generalisation: what training sees, what is measured, and the command line."""

import dataclasses
import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from unirep_jax import experiment
from unirep_jax.data import save_features
from unirep_jax.data.resident import index_batches, resident_arrays, take
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.methods import METHODS
from unirep_jax.methods.method import Embedding
from unirep_jax.tasks.oom import measures
from unirep_jax.tasks.oom.measures import Readout
from unirep_jax.tasks.oom.task import OutOfModal

ROOT = Path(__file__).parents[2]
SENSOR = OutOfModal(modality="sensor", labelled=0.25)


class Encoder:
    """Random vectors of every modality."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def represent(self, modality, features, *, present):
        vector = self.rng.normal(size=(len(features), 6)).astype(np.float32)
        return Embedding.of_vectors(vector)


def pretraining(calls):
    """Makes encoders, and records what they were given."""

    def pretrain(data, modalities, rows, *, seed):
        calls.append((modalities, rows, seed))
        return Encoder(seed)

    return pretrain


def prepared(protocol, data, calls=None, seed=0):
    calls = [] if calls is None else calls
    return protocol.prepare(data, METHODS["erm"](), pretraining(calls), seed)


def batches(protocol, data, steps=6, seed=0):
    """Batches of a run, in NumPy."""
    seen = prepared(protocol, data, seed=seed).seen
    pools = protocol.pools(seen, 16, seed)
    resident = resident_arrays(seen, pools)
    for rows in index_batches(pools, seed=seed, start_step=0, num_steps=steps, fused=1):
        yield {n: take(resident, rows[n][:, 0], pool) for n, pool in pools.items()}


def test_the_encoder_sees_the_in_modal_modalities_of_training_examples(paired_features):
    calls = []
    whole = prepared(SENSOR, paired_features, calls, seed=3).whole
    ((modalities, rows, seed),) = calls
    assert modalities == ("camera", "caption") and seed == 3
    np.testing.assert_array_equal(rows, paired_features.train)
    assert whole.modalities == ("sensor", "camera", "caption")
    np.testing.assert_array_equal(whole.features["sensor"], paired_features.features["sensor"])
    assert whole.features["camera"].shape == (96, 6)


def test_a_share_of_the_in_modal_data_is_that_of_the_encoder_too(paired_features):
    calls = []
    protocol = dataclasses.replace(SENSOR, in_modal_fraction=0.5)
    pools = protocol.pools(prepared(protocol, paired_features, calls).seen, 16, 0)
    assert calls[0][1].sum() == 16 + 24 and len(pools["in_modal"].rows) == 24
    assert len(pools["unlabelled"].rows) == 48 and len(pools["labelled"].rows) == 16


def test_one_in_modal_modality_and_given_embeddings_are_flattened_and_train_nothing(
    paired_features,
):
    pair = dataclasses.replace(
        paired_features,
        features={m: paired_features.features[m] for m in ("camera", "sensor")},
        present={m: paired_features.present[m] for m in ("camera", "sensor")},
    )
    for protocol, data in (
        (SENSOR, pair),
        (dataclasses.replace(SENSOR, given=True), paired_features),
    ):
        calls = []
        whole = prepared(protocol, data, calls).whole
        assert not calls
        np.testing.assert_array_equal(
            whole.features["camera"], data.features["camera"].reshape(96, 40)
        )


def test_no_batch_tells_the_class_or_the_pair_of_an_unlabelled_example(paired_features):
    """The third feature of every modality is the number of the example."""
    features = {m: np.array(x) for m, x in paired_features.features.items()}
    for x in features.values():
        x.reshape(96, -1)[:, 2] = np.arange(96)
    data = dataclasses.replace(paired_features, features=features)
    number = lambda x: np.reshape(x, (len(x), -1))[:, 2].astype(int)
    together = []
    for batch in batches(dataclasses.replace(SENSOR, given=True), data):
        unlabelled, in_modal, labelled = (batch[n] for n in ("unlabelled", "in_modal", "labelled"))
        assert unlabelled.keys() == {"features", "present", "index"}
        assert unlabelled["features"].keys() == {"sensor"}
        assert in_modal["features"].keys() == {"camera", "caption"} and "label" in in_modal
        outside, inside = (
            number(p["features"][m]) for p, m in ((unlabelled, "sensor"), (in_modal, "camera"))
        )
        known = {m: number(labelled["features"][m]) for m in data.modalities}
        np.testing.assert_array_equal(known["sensor"], known["camera"])
        np.testing.assert_array_equal(labelled["label"], data.label[known["sensor"]])
        assert not {*known["sensor"]} & {*outside} and not {*known["sensor"]} & {*inside}
        assert (unlabelled["index"] == outside).mean() < 0.3, "numbers do not name the pair"
        together.append((outside == inside).mean())
    assert np.mean(together) < 0.15


def test_without_pairs_all_training_examples_are_in_both_pools(paired_features):
    protocol = OutOfModal(modality="sensor", setting="unsupervised")
    pools = protocol.pools(prepared(protocol, paired_features).seen, 16, 0)
    assert {*pools} == {"unlabelled", "in_modal"}
    assert len(pools["unlabelled"].rows) == len(pools["in_modal"].rows) == 64
    everything = dataclasses.replace(SENSOR, labelled=1.0)
    assert {*everything.pools(prepared(everything, paired_features).seen, 16, 0)} == {"labelled"}


@pytest.mark.parametrize("setting", [{"setting": "few"}, {"labelled": 0.0}, {"labelled": 2.0}])
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        OutOfModal(modality="sensor", **setting)


# -- what is measured --------------------------------------------------------------------------


def readout(rng, count=40, classes=7, heads=2):
    logits = rng.normal(size=(count, classes))
    label = rng.integers(0, classes, count).astype(np.int32)
    features = rng.normal(size=(count, 3)).astype(np.float32)
    mapped = {
        f"m{k}": features + 0.3 * rng.normal(size=(count, 3)).astype(np.float32)
        for k in range(heads)
    }
    return Readout(features, logits, label, mapped, rng.normal(size=(heads, count, classes)))


def by_metric(rows):
    return {(r["metric"], r["target"]): r for r in rows}


def test_classes_are_counted_and_ranked(rng):
    said = readout(rng)
    found = by_metric(measures.classification(said))
    order = np.argsort(-said.logits, axis=1)
    for k in (1, 5):
        expected = np.mean([said.label[i] in order[i, :k] for i in range(40)])
        row = found[f"class_recall_at_{k}", ""]
        assert row["value"] == pytest.approx(expected) and row["chance"] == k / 7
    assert found["accuracy", ""]["value"] == found["class_recall_at_1", ""]["value"]


def test_counterparts_are_searched_by_mean_distance(rng):
    said = readout(rng)
    found = by_metric(measures.search(said))
    distance = np.mean(
        [np.linalg.norm(said.features[:, None] - v[None], axis=2) for v in said.mapped.values()],
        axis=0,
    )
    rank = (distance < np.diag(distance)[:, None]).sum(1)
    for k in (1, 5):
        assert found[f"instance_recall_at_{k}", ""]["value"] == pytest.approx((rank < k).mean())
        assert found[f"instance_recall_at_{k}", ""]["chance"] == pytest.approx(k / 40)


def test_accuracy_is_split_by_the_agreement_of_the_heads(rng):
    said = readout(rng, classes=3)
    found = by_metric(measures.agreement(said, "after"))
    votes, right = said.votes.argmax(2), said.logits.argmax(1) == said.label
    agree = votes[0] == votes[1]
    assert found["agreement_share", ""]["value"] == pytest.approx(agree.mean())
    assert found["agreement_accuracy", ""]["value"] == pytest.approx(right[agree].mean())
    assert found["disagreement_accuracy", ""]["value"] == pytest.approx(right[~agree].mean())
    assert found["in_modal_accuracy", "m1"]["value"] == pytest.approx(
        (votes[1] == said.label).mean()
    )
    later = said._replace(votes=said.votes[:, ::-1], logits=said.logits[::-1])
    same = by_metric(measures.agreement_of(said, later))
    right = later.logits.argmax(1) == said.label
    assert same["disagreement_accuracy", ""]["value"] == pytest.approx(right[~agree].mean())
    alone = said._replace(votes=said.votes[:1], mapped={"m0": said.mapped["m0"]})
    assert ("disagreement_accuracy", "") not in by_metric(measures.agreement(alone, "after"))


def test_clusters_that_are_the_classes_are_matched_to_them(rng):
    label = np.tile(np.arange(3), 10).astype(np.int32)
    features = np.eye(3, dtype=np.float32)[(label + 1) % 3] + 0.01 * rng.normal(size=(30, 3))
    said = Readout(features, np.zeros((30, 3)), label, {}, None)
    found = by_metric(measures.label_free(said, said, seed=0))
    assert found["cluster_accuracy", ""]["value"] == found["probe_accuracy", ""]["value"] == 1
    noise = said._replace(features=rng.normal(size=(30, 3)))
    assert (
        by_metric(measures.label_free(noise, noise, seed=0))["cluster_accuracy", ""]["value"] < 0.8
    )


def test_aligned_embeddings_are_classified_by_the_nearest_class_mean(rng):
    label = np.tile(np.arange(4), 8).astype(np.int32)
    means = 3 * rng.normal(size=(4, 5))
    sample = lambda: means[label] + 0.1 * rng.normal(size=(32, 5))
    found = by_metric(measures.zero_shot(sample(), {"a": sample(), "b": sample()}, label, label))
    assert found["accuracy", ""]["value"] == 1 and found["accuracy", ""]["chance"] == 0.25


# -- whole runs --------------------------------------------------------------------------------


def config_of(data, tmp_path, argument, **changes):
    save_features(tmp_path / "features", data)
    config = runpy.run_path(str(ROOT / "configs" / "oom.py"))["get_config"](argument)
    small = {
        "data.path": str(tmp_path / "features"),
        "steps": 8,
        "batch_size": 16,
        "train.fused": 4,
        "train.log_every": 4,
        "train.checkpoint_every": 8,
        "method.dim": 8,
        "method.width": 8,
        "task.modality": "sensor",
        "task.labelled": 0.25,
        "task.given": True,
    }
    config.update_from_flattened_dict(small | changes)
    return config


@pytest.mark.parametrize("setting", ["semi", pytest.param("unsupervised", marks=pytest.mark.slow)])
def test_cox_is_trained_measured_and_drawn(paired_features, tmp_path, setting, standard_promotion):
    changes = {
        "task.setting": setting,
        "method.hidden": 8,
        "method.latent": 4,
        "method.warmup": 0.5,
    }
    config = config_of(
        paired_features,
        tmp_path,
        "features,cox",
        **changes,
        **{"method.refresh_every": 4, "steps": 16},
    )
    folder = experiment.run(config, tmp_path / "run")
    rows = read_measurements(folder / "results.jsonl")
    assert {m.method for m in rows} == {"cox", "linear", "untrained", "chance"}
    assert {m.split for m in rows} == {setting}
    free = {m.metric for m in rows if m.method == "linear"}
    assert free == (
        {"accuracy", "macro_accuracy", "class_recall_at_1"}
        if setting == "semi"
        else {"cluster_accuracy", "probe_accuracy"}
    )
    metrics = {m.metric for m in rows}
    assert {
        "accuracy",
        "class_recall_at_1",
        "instance_recall_at_1",
        "agreement_share",
        "in_modal_accuracy",
    } <= metrics
    assert ("cluster_accuracy" in metrics) == (setting == "unsupervised")
    assert {m.selection for m in rows if m.metric == "agreement_share"} == {"before", "after"}
    assert any(m.selection == "after, same sets" for m in rows)
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert figures == {"agreement.png", "connection.png", "features.png", "training_curves.png"}
    logged = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"mmd/camera", "mmd/caption", "agreement"} <= logged.keys()
    assert "before exploration" in (folder / "results.md").read_text()


def test_a_baseline_and_aligned_embeddings_are_measured(
    paired_features, tmp_path, standard_promotion
):
    aligned = paired_features.features["camera"].reshape(96, -1)
    data = dataclasses.replace(
        paired_features,
        features={
            "sensor": paired_features.features["sensor"],
            "camera": aligned,
            "sensor_aligned": aligned,
        },
        present=dict.fromkeys(("sensor", "camera", "sensor_aligned"), np.ones(96, bool)),
    )
    folder = experiment.run(config_of(data, tmp_path, "features,erm"), tmp_path / "run")
    rows = read_measurements(folder / "results.jsonl")
    assert {m.method for m in rows} == {"erm", "aligned", "linear", "untrained", "chance"}
    accuracy = {m.method: m.value for m in rows if m.metric == "accuracy"}
    assert accuracy["linear"] > 0.5 > accuracy["chance"], "16 labelled pairs of 4 classes"
    (value,) = [m.value for m in rows if (m.method, m.metric) == ("aligned", "accuracy")]
    assert value > 0.9, "the camera tells the classes"
    assert {m.metric for m in rows if m.method == "erm"} == {
        "accuracy",
        "macro_accuracy",
        "class_recall_at_1",
    }
    assert jax.tree.leaves(rows) and {m.source for m in rows} == {"sensor"}
