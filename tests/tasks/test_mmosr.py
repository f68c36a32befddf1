"""Open-set recognition: what training sees, what is measured, and by which threshold."""

import dataclasses

import numpy as np
import pytest
from evaluation_case import as_it_is, trained
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from unirep_jax.data import FeatureSet, catalog
from unirep_jax.data.catalog import DataSet
from unirep_jax.methods.method import Batches, ClassifyingMethod, Decision
from unirep_jax.tasks.mmosr.generated import generate
from unirep_jax.tasks.mmosr.measures import Decisions, effective_experts, measure, rejecting
from unirep_jax.tasks.mmosr.task import Recognition

CLASSES, PER_CLASS = 6, 20


def feature_set(name="known", classes=CLASSES):
    """One modality holds the class number, the other noise that a network may take for a score."""
    rng = np.random.default_rng(0)
    label = np.tile(np.arange(classes), PER_CLASS).astype(np.int32)
    features = {
        "a": np.stack([label, rng.uniform(size=len(label))], axis=1).astype(np.float32),
        "b": rng.normal(size=(len(label), 3)).astype(np.float32),
    }
    train = np.arange(len(label)) < len(label) // 2
    return FeatureSet.from_arrays(name, features, label, train)


@dataclasses.dataclass(frozen=True)
class Oracle(ClassifyingMethod):
    """A `method` that knows the class of each known example, and scores by the second number."""

    known: tuple[int, ...]
    mistaken: bool = False
    batches = Batches.LABELLED

    def for_data(self, shapes, classes):
        return self

    def classify(self, params, state, features, present):
        import jax.numpy as jnp

        known = jnp.array(self.known, jnp.float32)
        logits = -jnp.abs(features["a"][:, :1] - known[None])
        if self.mistaken:
            logits = jnp.roll(logits, 1, axis=1)
        return {"a+b": Decision(logits, features["b"], present["a"], features["a"][:, 1])}

    def known_scores(self, params, decision):
        return decision.values.astype(np.float64)


def evaluated(protocol, data, tmp_path, seed=0, **settings):
    split = protocol._split(data, seed) if not protocol.out_of_distribution else None
    known = split.known if split else range(data.num_classes)
    method = Oracle(tuple(known), **settings)
    prepared = as_it_is(data)._replace(seen=protocol.seen(data, seed))
    return protocol.evaluate(trained(method, prepared, tmp_path, name="oracle", seed=seed))


def values(measurements, method="oracle"):
    return {
        (m.split, m.metric): m.value
        for m in measurements
        if m.method == method and m.metric != "class_accuracy"
    }


def test_every_metric_is_that_of_its_name():
    rng = np.random.default_rng(0)
    label = rng.integers(-1, 3, 200)
    predicted = np.where(rng.uniform(size=200) < 0.7, label, rng.integers(0, 3, 200)).clip(0)
    scores = np.round(rng.normal(size=200) + (label >= 0), 1)  # with ties
    rows = list(measure(Decisions(scores, predicted, label), threshold=0.4, class_names="xyz"))
    got = {(r["metric"], r["target"]): r["value"] for r in rows}
    known = label >= 0
    right = (predicted == label)[known]
    assert got["accuracy", ""] == pytest.approx(right.mean())
    assert got["macro_accuracy", ""] == pytest.approx(
        balanced_accuracy_score(label[known], predicted[known])
    )
    assert got["auroc", ""] == pytest.approx(roc_auc_score(known, scores))
    assert got["aupr_known", ""] == pytest.approx(average_precision_score(known, scores))
    assert got["aupr_unknown", ""] == pytest.approx(average_precision_score(~known, -scores))
    wins = scores[known][:, None] - scores[~known][None]
    area = ((wins > 0) + 0.5 * (wins == 0)).mean(1)
    assert got["oscr", ""] == pytest.approx((area * right).mean())
    unk = (scores[~known] < 0.4).mean()
    accepted = (scores >= 0.4) & (predicted == label)
    os_star = np.mean([accepted[label == c].mean() for c in range(3)])
    assert got["unk", ""] == pytest.approx(unk) and got["os_star", ""] == pytest.approx(os_star)
    assert got["hos", ""] == pytest.approx(2 * unk * os_star / (unk + os_star))
    for c, name in enumerate("xyz"):
        assert got["class_accuracy", name] == pytest.approx((predicted == label)[label == c].mean())
    assert all(0 <= r["chance"] <= 1 for r in rows)


def test_rejecting_marks_what_is_below_the_threshold():
    decisions = Decisions(np.array([0.4, 0.5, 0.6]), np.array([2, 1, 0]), np.zeros(3, int))
    assert rejecting(decisions, 0.5).tolist() == [-1, 1, 0]


def test_training_sees_known_classes_alone_and_the_held_out_part_is_not_fitted():
    data = feature_set()
    protocol = Recognition(known=4, held_out=0.25)
    part = protocol.seen(data, seed=3)
    split = protocol._split(data, 3)
    np.testing.assert_array_equal(np.unique(part.features["a"][:, 0]), split.known)
    assert part.num_classes == 4 and not part.train.all() and part.train.any()
    kept = data.train & np.isin(data.label, split.known)
    assert len(part.label) == kept.sum(), "no test example"
    assert abs((~part.train).mean() - 0.25) < 0.06
    again = protocol.seen(data, seed=3)
    np.testing.assert_array_equal(again.features["b"], part.features["b"])
    other = protocol._split(data, 4)
    assert other.known != split.known


def test_the_evaluation_tests_all_classes_and_counts_them(tmp_path):
    protocol = Recognition(known=4, unknown=(1,))
    found = evaluated(protocol, feature_set(), tmp_path)
    by = values(found)
    assert {split for split, _ in by} == {"4 known of 6", "4 known of 5"}
    for split, count in (("4 known of 6", 60), ("4 known of 5", 50)):
        assert by[split, "macro_accuracy"] == 1.0
        assert 0.3 < by[split, "auroc"] < 0.7, "the score is noise"
        sizes = {m.num_examples for m in found if (m.split, m.metric) == (split, "auroc")}
        assert sizes == {count}
    assert values(found, "chance")["4 known of 6", "oscr"] == pytest.approx(1 / 8)
    assert by["4 known of 6", "openness"] == pytest.approx(1 - np.sqrt(8 / 10))
    assert by["4 known of 5", "openness"] == pytest.approx(1 - np.sqrt(8 / 9))
    names = ("curves", "scores", "confusion", "features")
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"{name}.png" for name in names}


def test_a_logistic_regression_on_the_features_is_measured_beside_the_method(tmp_path):
    """The class number is in modality a; as one of many numbers a regression reads the corners."""
    data = feature_set()
    one_hot = np.eye(CLASSES, dtype=np.float32)[data.label]
    data = dataclasses.replace(data, features=data.features | {"b": one_hot})
    found = evaluated(Recognition(known=4, unknown=(1,)), data, tmp_path)
    linear, oracle = values(found, "linear"), values(found)
    assert linear.keys() == oracle.keys()
    assert linear["4 known of 6", "macro_accuracy"] == 1.0
    assert linear["4 known of 6", "auroc"] > 0.9 > oracle["4 known of 6", "auroc"]
    assert {m.method for m in found} == {"oracle", "linear", "chance"}, "no step: none untrained"
    assert len({(m.split, m.metric, m.target) for m in found if m.method == "chance"}) == len(
        [m for m in found if m.method == "chance"]
    )
    alone = evaluated(Recognition(known=4, control=False), data, tmp_path)
    assert {m.method for m in alone} == {"oracle", "chance"}


def test_a_classifier_that_is_always_wrong_has_no_oscr(tmp_path):
    by = values(evaluated(Recognition(known=4), feature_set(), tmp_path, mistaken=True))
    assert by["4 known of 6", "macro_accuracy"] == 0 == by["4 known of 6", "oscr"]


def test_the_threshold_comes_from_held_out_training_examples(tmp_path):
    """Scores of the test part are shifted up: all of it is accepted."""
    data = feature_set()
    shifted = data.features["a"].copy()
    shifted[~data.train, 1] += 10
    data = dataclasses.replace(data, features=data.features | {"a": shifted})
    by = values(evaluated(Recognition(known=3), data, tmp_path))
    assert by["3 known of 6", "os_star"] == 1 and by["3 known of 6", "unk"] == 0


def test_examples_without_what_the_decision_needs_do_not_count(tmp_path):
    data = feature_set()
    present = data.present | {"a": np.arange(len(data.label)) % 4 != 1}
    data = dataclasses.replace(data, present=present)
    found = evaluated(Recognition(known=4), data, tmp_path)
    sizes = {m.num_examples for m in found if m.metric == "auroc"}
    assert sizes == {int((present["a"] & ~data.train).sum())}


def test_another_data_set_can_be_what_must_be_rejected(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.DATA_SETS, "elsewhere", DataSet(lambda path: feature_set("far", 3)))
    protocol = Recognition(out_of_distribution="elsewhere")
    data = feature_set()
    part = protocol.seen(data, 0)
    assert part.num_classes == 6 and len(part.label) == data.train.sum()
    by = values(evaluated(protocol, data, tmp_path))
    assert {split for split, _ in by} == {"known against far"}
    assert by["known against far", "macro_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"known": 6}, "at least 2 must be known"),
        ({"known": 4, "unknown": (3,)}, "2 unknown"),
        ({"out_of_distribution": "nowhere"}, "nowhere"),
        ({"held_out": 0.0}, "between 0 and 1"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Recognition(**settings).seen(feature_set(), 0)


def test_out_of_distribution_data_are_seen_through_the_modalities_of_the_data(
    tmp_path, monkeypatch
):
    far = feature_set("far", 3)
    more = far.features | {"c": np.zeros((len(far.label), 2), np.float32)}
    far = FeatureSet.from_arrays("far", more, far.label, far.train)
    monkeypatch.setitem(catalog.DATA_SETS, "elsewhere", DataSet(lambda path: far))
    protocol = Recognition(out_of_distribution="elsewhere", control=False)
    by = values(evaluated(protocol, feature_set(), tmp_path))
    assert by["known against far", "macro_accuracy"] == 1.0


def test_out_of_distribution_data_of_other_shapes_are_refused(monkeypatch):
    other = feature_set()
    other = dataclasses.replace(other, features=other.features | {"b": np.zeros((120, 5), "f")})
    monkeypatch.setitem(catalog.DATA_SETS, "elsewhere", DataSet(lambda path: other))
    with pytest.raises(ValueError, match="out-of-distribution data have"):
        Recognition(out_of_distribution="elsewhere").seen(feature_set(), 0)


def test_further_scores_are_rows_of_their_own_with_thresholds_of_their_own(tmp_path):
    protocol = Recognition(known=4, scores=("max_logit", "nearest_neighbour", "mahalanobis"))
    found = evaluated(protocol, feature_set(), tmp_path)
    plain = values(evaluated(Recognition(known=4), feature_set(), tmp_path))
    assert values(found) == plain, "its own score is as before"
    far = values(found, "oracle, max_logit")
    assert far["4 known of 6", "auroc"] == 1, "an unknown class is away from all known numbers"
    assert far["4 known of 6", "macro_accuracy"] == plain["4 known of 6", "macro_accuracy"]
    assert far["4 known of 6", "hos"] == 1 > plain["4 known of 6", "hos"]
    noise = values(found, "oracle, mahalanobis")["4 known of 6", "auroc"]
    assert 0.2 < noise < 0.8, "features are noise"


def test_scores_equal_those_of_the_kernels_on_what_was_fitted(tmp_path):
    from unirep_jax import metrics

    data, protocol = feature_set(), Recognition(known=4, scores=("nearest_neighbour",))
    by = values(evaluated(protocol, data, tmp_path), "oracle, nearest_neighbour")
    seen, split = protocol.seen(data, 0), protocol._split(data, 0).feature_set
    reference = seen.features["b"][seen.train]
    test = ~split.train
    scores = metrics.nearest_neighbour(split.features["b"][test], reference)
    known = split.label[test] >= 0
    assert by["4 known of 6", "auroc"] == pytest.approx(roc_auc_score(known, scores))


def test_generated_sets_are_rejected_beside_unknown_classes(tmp_path):
    protocol = Recognition(known=4, generated=("noise", "mismatched"))
    found = evaluated(protocol, feature_set(), tmp_path)
    plain = values(evaluated(Recognition(known=4), feature_set(), tmp_path))
    by = values(found)
    assert {key: by[key] for key in plain} == plain, "unknown classes count as before"
    assert {split for split, _ in by} == {
        "4 known of 6",
        "4 known against noise",
        "4 known against mismatched",
    }
    sizes = {m.split: m.num_examples for m in found if m.metric == "auroc"}
    assert sizes == {
        "4 known of 6": 60,
        "4 known against noise": 80,
        "4 known against mismatched": 80,
    }


def test_a_mismatched_example_has_the_first_modality_of_another_class_and_noise_no_class(rng):
    label = rng.integers(0, 3, 50).astype(np.int32)
    words = rng.integers(1, 9, (50, 4)).astype(np.int32)
    features = {"a": np.stack([label, np.arange(50)], 1).astype(np.float32), "w": words}
    train = np.arange(50) == 0
    data = FeatureSet.from_arrays("x", features, label, train)
    made = generate("mismatched", data, np.ones(50, bool), 0)
    rows = np.array([np.flatnonzero((words == w).all(1))[0] for w in made.features["w"]])
    assert (made.features["a"][:, 0] != label[rows]).all() and (made.label == -1).all()
    noisy = generate("noise", data, label == 1, 0)
    assert len(noisy.label) == (label == 1).sum() and noisy.features["w"].dtype == np.int32
    assert set(np.unique(noisy.features["w"])) <= set(np.unique(words[label == 1]))
    assert abs(noisy.features["a"][:, 1].mean() - np.arange(50)[label == 1].mean()) < 12


@pytest.mark.parametrize("field", ["scores", "generated"])
def test_an_unknown_score_or_set_is_refused_by_name(field):
    with pytest.raises(ValueError, match=f"{field}: 'best' is none of"):
        Recognition(**{field: ("best",)})


def test_effective_experts_are_exponentials_of_entropies():
    assert effective_experts(np.full((5, 4), 0.25)) == pytest.approx((4, 4))
    assert effective_experts(np.eye(4)[[0, 0, 0]]) == pytest.approx((1, 1))
    assert effective_experts(np.eye(4)) == pytest.approx((4, 1))
    half = np.array([[0.5, 0.5, 0], [0.0, 0.5, 0.5]])
    mean = np.array([0.25, 0.5, 0.25])
    assert effective_experts(half) == pytest.approx((np.exp(-(mean @ np.log(mean))), 2))
