"""Cross-modal generalisation on representations whose right answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_case import as_it_is, trained

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.chance import guess
from unirep_jax.evaluation.embedding import Representation
from unirep_jax.evaluation.measurements import Measurement, read_measurements, write_measurements
from unirep_jax.evaluation.probe import Probe
from unirep_jax.losses import CodebookState
from unirep_jax.methods.baselines import RawFeatures
from unirep_jax.methods.unified import CodebookMethod
from unirep_jax.tasks.generalization.measures import (
    closed_set,
    labelled_rows,
    open_set,
    source_folds,
    source_threshold,
)
from unirep_jax.tasks.generalization.task import ClosedSet, OpenSet
from unirep_jax.tasks.representation import Subject

pytestmark = pytest.mark.usefixtures("standard_promotion")

PROBE = Probe(hidden=32, steps=150, lr=1e-2)
CLASSES, PER_CLASS, TIME = 6, 20, 3


def feature_set(present=None):
    """Labels and splits only: the tasks never look at features."""
    label = np.tile(np.arange(CLASSES), PER_CLASS).astype(np.int32)
    features = {m: np.zeros((len(label), 1), np.float32) for m in ("a", "b")}
    train = np.arange(len(label)) < len(label) // 2
    return FeatureSet.from_arrays("known", features, label, train, present=present)


def representation(indices_a, indices_b):
    codebook = jnp.asarray(np.random.default_rng(0).normal(size=(CLASSES + 4, 8)), jnp.float32)
    indices = {"a": jnp.asarray(indices_a), "b": jnp.asarray(indices_b)}
    return Representation(dict.fromkeys(indices, codebook), indices, {}, codebook)


def one_code_per_class(data):
    return np.repeat(data.label[:, None], TIME, axis=1)


def test_a_perfectly_shared_code_generalises_perfectly():
    data = feature_set()
    codes = one_code_per_class(data)
    rows = list(closed_set(representation(codes, codes), data, probe=PROBE, seed=0))
    assert {(r["source"], r["target"]) for r in rows} == {
        ("a", "a"),
        ("a", "b"),
        ("b", "a"),
        ("b", "b"),
    }
    assert all(r["value"] == 1.0 and r["num_examples"] == 60 for r in rows)


def test_codes_that_are_not_shared_give_chance_across_and_all_within():
    data = feature_set()
    codes = one_code_per_class(data)
    noise = np.random.default_rng(1).integers(0, CLASSES, codes.shape)
    values = {
        (r["source"], r["target"]): r["value"]
        for r in closed_set(representation(codes, noise), data, probe=PROBE, seed=0)
    }
    assert values["a", "a"] == 1.0
    assert abs(values["a", "b"] - 1 / CLASSES) < 0.15


def test_absent_examples_are_neither_trained_on_nor_tested():
    present = {
        "a": np.ones(CLASSES * PER_CLASS, bool),
        "b": np.arange(CLASSES * PER_CLASS) % 2 == 0,
    }
    data = feature_set(present)
    codes = one_code_per_class(data)
    wrong = np.where(present["b"][:, None], codes, (codes + 1) % CLASSES)
    for r in closed_set(representation(codes, wrong), data, probe=PROBE, seed=0):
        if r["target"] == "b" and r["source"] == "a":
            assert r["value"] == 1.0 and r["num_examples"] == 30


def test_open_set_reports_every_direction_split_rule_and_metric():
    data = feature_set()
    codes = one_code_per_class(data)
    rows = list(
        open_set(
            representation(codes, codes),
            data,
            known=(3, 4),
            selections=("honest", "paper"),
            folds=3,
            probe=PROBE,
            seed=0,
        )
    )
    assert len(rows) == 2 * 2 * (2 * 8 + 2)
    by = {(r["split"], r["selection"], r["source"], r["metric"]): r["value"] for r in rows}
    for split in ("split1", "split2"):
        for source in ("a", "b"):
            os_star, unk, hos = (by[split, "paper", source, m] for m in ("os_star", "unk", "hos"))
            assert hos == pytest.approx(2 * os_star * unk / max(os_star + unk, 1e-12))
            best = max(by[split, rule, source, "hos"] for rule in ("paper", "honest"))
            assert best > guess("hos", 3), "unknown classes have codes that no known class uses"


def test_auroc_and_oscr_rank_the_probes_confidence_without_threshold():
    """Against counting pairs: a known example above an unknown one, ties half."""
    data = feature_set()
    codes = one_code_per_class(data)
    noisy = np.where(np.random.default_rng(3).random(codes.shape) < 0.4, 0, codes)
    view, settings = representation(codes, noisy), {"folds": 3, "probe": PROBE, "seed": 0}
    rows = list(open_set(view, data, known=(4,), selections=("paper",), **settings))
    found = {r["metric"]: r for r in rows if (r["source"], r["target"]) == ("a", "b")}
    train = labelled_rows(data, "a", train=True, classes=4)
    params = PROBE.fit(
        jax.random.key(0),
        view.table["a"],
        view.indices["a"][train],
        jnp.asarray(data.label[train]),
        jnp.ones(len(train), bool),
        jnp.ones(4, bool),
    )
    test = np.flatnonzero(~data.train)
    logits = np.float64(PROBE.logits(params, view.table["b"], view.indices["b"][test]))
    score = np.exp(logits - logits.max(1, keepdims=True)).sum(1) ** -1
    known, right = data.label[test] < 4, logits.argmax(1) == data.label[test]
    above = [
        (1.0 if score[i] > score[j] else 0.5 * (score[i] == score[j])) * np.array([1, right[i]])
        for i in np.flatnonzero(known)
        for j in np.flatnonzero(~known)
    ]
    auroc, oscr = np.mean(above, axis=0)
    assert found["auroc"]["value"] == pytest.approx(auroc, abs=1e-9)
    assert found["oscr"]["value"] == pytest.approx(oscr, abs=1e-9) and 0 < oscr < auroc < 1
    assert (found["auroc"]["chance"], found["oscr"]["chance"]) == (0.5, 0.125)
    assert found["auroc"]["selection"] == found["oscr"]["selection"] == "none"
    counts = {name: found[name]["num_examples"] for name in ("os_star", "unk", "hos")}
    assert counts == {"os_star": known.sum(), "unk": (~known).sum(), "hos": len(test)}


def test_a_representation_without_common_space_is_measured_within_each_modality_alone():
    data = feature_set()
    codes = one_code_per_class(data)
    view = representation(codes, codes)
    rows = list(closed_set(view, data, probe=PROBE, seed=0, across=False))
    assert [(r["source"], r["target"]) for r in rows] == [("a", "a"), ("b", "b")]
    subject = Subject("raw", RawFeatures(), view, data, 0)
    measured = list(OpenSet(probe={"steps": 20}).measure(subject))
    assert {(name, r["source"] == r["target"]) for name, r in measured} == {("cmg", True)}
    assert OpenSet().baseline_refusal(RawFeatures(), "raw") == ""
    assert "a space of its own" in OpenSet().refusal(RawFeatures(), "raw")


def test_the_closed_set_takes_two_or_three_classes_whatever_the_open_set_asks():
    for classes in (2, 3):
        data = dataclasses.replace(
            feature_set(), label=np.tile(np.arange(classes, dtype=np.int32), 120 // classes)
        )
        assert ClosedSet(known=(14, 21), folds=9).shown(data, 0) is data


def test_the_honest_threshold_does_not_depend_on_anything_but_source_training_data():
    data = feature_set()
    codes = one_code_per_class(data)
    rows = np.flatnonzero(data.train & (data.label < 4))
    settings = {"folds": 2, "probe": PROBE, "seed": 0}
    first = source_threshold(representation(codes, codes), data, "a", rows, 4, **settings)
    scrambled = np.where(data.train[:, None], codes, 0)
    label = np.where(data.train, data.label, 0).astype(np.int32)
    other = dataclasses.replace(data, label=label)
    second = source_threshold(
        representation(scrambled, np.zeros_like(codes)), other, "a", rows, 4, **settings
    )
    assert first == second and 0.25 <= first <= 1.0


def test_probes_trained_side_by_side_ignore_what_is_masked():
    data = feature_set()
    codes = jnp.asarray(one_code_per_class(data))
    spoiled = jnp.where((data.label == 5)[:, None], 0, codes)  # class 5 looks like class 0
    keep = jnp.asarray(data.label != 5)
    allowed = jnp.arange(CLASSES) != 5
    codebook = representation(codes, codes).codebook
    params = PROBE.fit(jax.random.key(0), codebook, spoiled, jnp.asarray(data.label), keep, allowed)
    logits = np.where(allowed[None], PROBE.logits(params, codebook, spoiled), -np.inf)
    np.testing.assert_array_equal(logits.argmax(1)[keep], data.label[keep])
    assert params["output_bias"][5] == 0, "a class that is no possible answer is not learned"
    assert (params["output_bias"][:5] != 0).all()


def test_chance_is_the_best_that_guessing_reaches():
    for classes in (2, 5, 14):
        rates = np.linspace(1e-4, 1 - 1e-4, 20001)
        os_star = (1 - rates) / classes
        hos = (2 * os_star * rates / (os_star + rates)).max()
        assert guess("hos", classes) == pytest.approx(hos, abs=1e-6)
    assert guess("accuracy", 4) == 0.25


@dataclasses.dataclass(frozen=True)
class OneCode(CodebookMethod):
    """Sequences are the features, and the codebook has one code."""

    def loss(self, params, state, batch, *, key, axis_name=None):
        raise NotImplementedError

    def continuous(self, params, state, modality, features):
        return features


def test_what_codes_cost_is_a_row_of_its_own(tmp_path):
    data = feature_set()
    sequence = np.repeat(np.eye(CLASSES, dtype=np.float32)[data.label][:, None], TIME, axis=1)
    data = dataclasses.replace(data, features={"a": sequence, "b": sequence})
    method, one = OneCode(dim=CLASSES, codes=1), jnp.zeros((1, CLASSES))
    state = {"codebook": CodebookState(one, jnp.ones(1), one, jnp.zeros(1))}
    case = trained(method, as_it_is(data), tmp_path, name="m", state=state)._replace(draws=False)
    task = ClosedSet(control=False, continuous=True, probe=dataclasses.asdict(PROBE))
    across = [m for m in task.evaluate(case) if m.source != m.target]
    mean = lambda name: np.mean([m.value for m in across if m.method == name])
    assert mean("m") == mean("chance") == 1 / CLASSES, "one code tells no class"
    assert mean("m, continuous") == 1, "the features tell every class"


def test_measurements_survive_a_round_trip(tmp_path):
    rows = [Measurement("oscmg", "micu", "d", "split1", "a", "b", "hos", 0.5, 10, 0, "honest")]
    write_measurements(tmp_path / "results.jsonl", rows)
    assert read_measurements(tmp_path / "results.jsonl") == rows


@pytest.mark.parametrize(("folds", "classes"), [(1, 4), (0, 4), (3, 1)])
def test_a_threshold_needs_two_folds_of_two_classes(folds, classes):
    """With one fold every class is hidden, and the probe would train on nothing."""
    data = feature_set()
    codes = one_code_per_class(data)
    rows = np.flatnonzero(data.train & (data.label < classes))
    settings = {"folds": folds, "probe": PROBE, "seed": 0}
    with pytest.raises(ValueError, match=f"folds={folds} of {classes} known classes"):
        source_threshold(representation(codes, codes), data, "a", rows, classes, **settings)


@pytest.mark.parametrize("order", ["classes together", "shuffled", "classes in turn"])
@pytest.mark.parametrize("classes", [6, 12])
def test_every_fold_hides_examples_of_known_and_of_unknown_classes(order, classes):
    """Without groups every example is one, in whose number the class may be written."""
    label = {
        "classes together": np.repeat(np.arange(classes), 20),
        "classes in turn": np.tile(np.arange(classes), 20),
        "shuffled": np.random.default_rng(0).permutation(np.repeat(np.arange(classes), 20)),
    }[order]
    hidden_class, hidden_group, allowed = source_folds(
        label, np.arange(len(label)), classes, 3, seed=0
    )
    assert hidden_class.shape == hidden_group.shape == (3, len(label))
    assert (hidden_group & ~hidden_class).any(1).all() and hidden_class.any(1).all()
    np.testing.assert_array_equal(hidden_class, ~allowed[:, label])
    np.testing.assert_array_equal(hidden_class.sum(0), np.ones(len(label)))
    np.testing.assert_array_equal(hidden_group.sum(0), np.ones(len(label)))
    again = source_folds(label, np.arange(len(label)), classes, 3, seed=0)
    np.testing.assert_array_equal(again[1], hidden_group)
    assert not np.array_equal(
        source_folds(label, np.arange(len(label)), classes, 3, seed=1)[1], hidden_group
    )


@pytest.mark.parametrize(
    ("classes", "groups", "folds"), [(2, 9, 3), (6, 9, 1), (6, 1, 3), (3, 2, 3)]
)
def test_folds_that_cannot_be_made_are_refused(classes, groups, folds):
    label = np.repeat(np.arange(classes), 6)
    with pytest.raises(ValueError, match=f"folds={folds}"):
        source_folds(label, np.arange(len(label)) % groups, classes, folds, seed=0)


def test_the_honest_rule_holds_where_rows_are_in_the_order_of_their_classes():
    """12 classes, 6 known, codes that every modality shares: nearly the best rule is found."""
    classes, count = 12, 20
    label = np.repeat(np.arange(classes), count).astype(np.int32)
    features = {m: np.zeros((len(label), 1), np.float32) for m in ("a", "b")}
    data = FeatureSet.from_arrays("sorted", features, label, np.arange(len(label)) % 2 == 0)
    codebook = jnp.asarray(np.random.default_rng(0).normal(size=(classes, 8)), jnp.float32)
    codes = jnp.asarray(np.repeat(label[:, None], TIME, axis=1))
    view = Representation(
        dict.fromkeys(("a", "b"), codebook), {"a": codes, "b": codes}, {}, codebook
    )
    settings = {"selections": ("honest", "paper"), "folds": 3, "probe": PROBE, "seed": 0}
    rows = [r for r in open_set(view, data, known=(6,), **settings) if r["metric"] == "hos"]
    hos = {
        rule: [r["value"] for r in rows if r["selection"] == rule] for rule in ("honest", "paper")
    }
    assert len(hos["honest"]) == 2
    assert min(hos["honest"]) > 0.75 * max(hos["paper"]) > 0, "0 where no known example was hidden"


def test_directions_that_cannot_be_measured_are_left_out():
    label = np.tile(np.arange(CLASSES), PER_CLASS)
    present = {"a": np.ones(len(label), bool), "b": np.arange(len(label)) < len(label) // 2}
    data = feature_set(present)  # no test example has b
    codes = one_code_per_class(data)
    rows = list(closed_set(representation(codes, codes), data, probe=PROBE, seed=0))
    assert {(r["source"], r["target"]) for r in rows} == {("a", "a"), ("b", "a")}
    data = dataclasses.replace(data, label=np.where(data.train, data.label, data.label % 3))
    settings = {"selections": ("paper",), "folds": 3, "probe": PROBE, "seed": 0}
    assert not list(open_set(representation(codes, codes), data, known=(4,), **settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.full(120, -1, np.int32)}, "no training example has a label"),
        ({"label": np.zeros(120, np.int32)}, "are of one class"),
        ({"train": np.ones(120, bool)}, "no test example has a label"),
    ],
)
def test_data_without_what_the_task_needs_are_refused(change, message):
    data = dataclasses.replace(feature_set(), **change)
    with pytest.raises(ValueError, match=message):
        ClosedSet().shown(data, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selections": ("best",)}, "'best' is none of honest, paper"),
        ({"folds": 1}, "folds=1"),
        ({"probe": {"steps": 0}}, "probe.steps=0"),
        ({"probe": {"lr": float("nan")}}, "probe.lr=nan"),
        ({"known": (2, 4)}, "must leave two classes"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_training(settings, message):
    with pytest.raises(ValueError, match=message):
        OpenSet(**settings).shown(feature_set(), 0)
