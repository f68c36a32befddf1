"""Tables and pictures of open-set recognition show the numbers that they claim to show."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve
from threadpoolctl import threadpool_limits

from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.metrics import class_accuracy_gap
from unirep_jax.tasks.mmosr import figures
from unirep_jax.tasks.mmosr.tables import recognition_tables

NAMES = ["zero", "one", "two"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved by the test; they are drawn, so that what cannot be drawn fails."""
    saved = []
    savefig = Figure.savefig

    def remember(figure, path, **settings):
        saved.append(figure)
        savefig(figure, path, **settings)
        assert path.read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved


def examples(rng, count=60, classes=3):
    """Scores with many ties, labels from −1 and predictions that are often right."""
    label = rng.integers(-1, classes, count)
    guess = rng.integers(0, classes, count)
    predicted = np.where((rng.random(count) < 0.6) & (label >= 0), label, guess)
    return np.round(rng.normal(size=count) + (label >= 0), 1), label, predicted


def legend(axis):
    return " | ".join(text.get_text() for text in axis.get_legend().get_texts())


# Pictures


def test_curves_of_a_worked_example(tmp_path, drawn):
    """AUROC 3/4 and OSCR 5/8 by counting pairs of four known and two unknown scores."""
    scores = np.array([0.9, 0.8, 0.6, 0.4, 0.7, 0.3])
    label, predicted = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 0, 0, 1, 0, 1])
    figures.open_set_curves(
        tmp_path / "a.png", scores, label, predicted, threshold=0.6, title="toy"
    )
    roc, ccr = drawn[0].axes
    assert drawn[0].get_suptitle() == "toy: 4 known and 2 unknown examples"
    assert "AUROC 75.0%" in legend(roc) and "TPR 75.0% at FPR 50.0%" in legend(roc)
    assert "OSCR 62.5%" in legend(ccr) and "accuracy 75.0%" in legend(ccr)
    assert "CCR 50.0% at FPR 50.0%" in legend(ccr)
    stars = [
        line.get_xydata().tolist()
        for axis in (roc, ccr)
        for line in axis.lines
        if line.get_marker() == "*"
    ]
    assert stars == [[[0.5, 0.75]], [[0.5, 0.5]]]


def test_curves_are_those_of_scikit_learn_and_of_counting(tmp_path, drawn, rng):
    scores, label, predicted = examples(rng)
    known = label >= 0
    figures.open_set_curves(tmp_path / "a.png", scores, label, predicted, threshold=0.0, title="")
    roc, ccr = drawn[0].axes
    fpr, tpr, _ = roc_curve(known, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.lines[0].get_xydata(), np.stack([fpr, tpr], 1))
    stairs = ccr.lines[0]
    assert stairs.get_drawstyle() == "steps-post"
    for x, y in stairs.get_xydata():  # every corner is what some threshold gives
        rates = [
            (np.mean(scores[~known] >= t), np.mean((scores >= t)[known] & right))
            for right in [(predicted == label)[known]]
            for t in [np.inf, *scores]
        ]
        assert any(np.allclose((max(f, 0.5 / (~known).sum()), c), (x, y)) for f, c in rates)
    assert stairs.get_xdata().max() == 1
    assert stairs.get_ydata().max() == pytest.approx(np.mean((predicted == label)[known]))


def test_an_operating_point_without_false_positives_is_on_the_log_axis(tmp_path, drawn):
    scores, label = np.array([3.0, 2.0, 1.0, 0.0]), np.array([0, 1, -1, -1])
    figures.open_set_curves(tmp_path / "a.png", scores, label, label * 0, threshold=2, title="")
    axis = drawn[0].axes[1]
    (star,) = [line for line in axis.lines if line.get_marker() == "*"]
    assert star.get_xdata()[0] == axis.get_xlim()[0] > 0 and star.get_ydata()[0] == 0.5
    assert "at FPR 0.0%" in legend(axis)


def test_histograms_of_the_three_groups_have_the_same_bins_and_sum_to_one(tmp_path, drawn, rng):
    scores, label, predicted = examples(rng)
    threshold = float(np.sort(scores)[20])  # a score: that example is accepted
    figures.score_histograms(
        tmp_path / "a.png", scores, label, predicted, threshold=threshold, title="toy"
    )
    known = label >= 0
    groups = (known & (predicted == label), known & (predicted != label), ~known)
    edges = [[bar.get_x() for bar in axis.patches] for axis in drawn[0].axes]
    assert edges[0] == edges[1] == edges[2]
    for axis, group in zip(drawn[0].axes, groups, strict=True):
        accepted = np.mean(scores[group] >= threshold)
        assert f"{group.sum()} examples, {accepted:.1%} accepted" in axis.get_title("left")
        heights = [bar.get_height() for bar in axis.patches]
        np.testing.assert_allclose(sum(heights), 1)
        first = np.mean(scores[group] < edges[0][1])
        np.testing.assert_allclose(heights[0], first)
        assert axis.lines[0].get_xdata()[0] == threshold


def test_a_perfect_classifier_with_equal_scores_can_be_drawn(tmp_path, drawn):
    label = np.array([0, 1, 2, -1])
    arguments = (np.ones(4), label, np.maximum(label, 0))
    figures.score_histograms(tmp_path / "a.png", *arguments, threshold=1.0, title="")
    figures.open_set_curves(tmp_path / "b.png", *arguments, threshold=1.0, title="")
    assert drawn[0].axes[1].get_title("left") == "known, wrong class: 0 examples"
    assert "AUROC 50.0%" in legend(drawn[1].axes[0])


def test_expert_load_has_the_mean_gate_of_each_class_and_of_the_unknown_last(tmp_path, drawn, rng):
    gates = rng.random((20, 5)).astype(np.float32)
    label = np.arange(20) % 3 - 1  # -1, 0, 1: class 2 has no example
    figures.expert_load(tmp_path / "a.png", gates, label, NAMES, title="toy")
    bars, _, rows, _ = drawn[0].axes
    heat = rows.images[0].get_array()
    for row, c in enumerate((0, 1, None, -1)):
        if c is None:
            assert np.ma.getmaskarray(heat)[row].all()
        else:
            np.testing.assert_allclose(heat[row], gates[label == c].mean(0), rtol=1e-6)
    texts = [text.get_text() for text in rows.get_yticklabels()]
    assert texts == ["zero (7)", "one (6)", "two (0)", "unknown (7)"]
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights, gates.sum(0) / gates.sum(), rtol=1e-6)
    assert bars.lines[0].get_ydata()[0] == 1 / 5 and bars.get_xlim() == rows.get_xlim()


def test_feature_map_names_eight_classes_and_crosses_the_unknown(tmp_path, drawn, rng, monkeypatch):
    monkeypatch.setattr(figures, "MAP_EXAMPLES", 70)
    label = np.repeat(np.arange(-1, 10), 10)
    label[label == 4] = 7  # 4 has none; 7 and another seven of the nine classes are named
    names = [f"class {c}" for c in range(10)]
    with threadpool_limits(1):
        figures.feature_map(
            tmp_path / "a.png", rng.normal(size=(110, 6)), label, names, title="toy"
        )
    axis = drawn[0].axes[0]
    groups = {c.get_label(): c for c in axis.collections}
    assert sum(len(c.get_offsets()) for c in groups.values()) == 70
    for name, group in groups.items():
        assert name.endswith(f"({len(group.get_offsets())})")
    shown = [name for name in groups if name.startswith("class ")]
    assert len(shown) == 8 and any("class 7" in name for name in shown)
    assert "1 other known classes" in next(iter(groups))
    (crosses,) = [c for name, c in groups.items() if name.startswith("unknown")]
    colours = [to_hex(group.get_facecolor()[0]) for group in groups.values()]
    assert to_hex(crosses.get_facecolor()[0]) == "#000000" and len(set(colours)) == 10
    assert "of 110)" in drawn[0].get_suptitle()


def test_points_of_the_feature_map_have_the_colours_of_their_classes(tmp_path, drawn, rng):
    """Three groups far apart stay apart, each of one colour."""
    label = rng.integers(-1, 2, 45)
    features = 20.0 * np.eye(3)[label] + 0.1 * rng.normal(size=(45, 3))
    with threadpool_limits(1):
        figures.feature_map(tmp_path / "a.png", features, label, NAMES, title="")
    groups = [np.asarray(c.get_offsets()) for c in drawn[0].axes[0].collections]
    centres = [g.mean(0) for g in groups]
    spread = max(np.linalg.norm(g - c, axis=1).max() for g, c in zip(groups, centres, strict=True))
    apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(centres, 2))
    assert len(groups) == 3 and apart > 2 * spread


def test_confusion_is_in_percent_of_each_true_class(tmp_path, drawn, rng):
    label, predicted = rng.integers(-1, 2, 50), rng.integers(-1, 3, 50)  # no example of class 2
    figures.confusion(tmp_path / "a.png", label, predicted, NAMES, title="toy")
    axis = drawn[0].axes[0]
    image = axis.images[0].get_array()
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    order = (0, 1, 2, -1)
    for (i, true), (j, said) in itertools.product(enumerate(order), enumerate(order)):
        if true == 2:
            assert np.ma.getmaskarray(image)[i, j] and (j, i) not in texts
            continue
        share = 100 * np.mean(predicted[label == true] == said)
        np.testing.assert_allclose(image[i, j], share)
        assert texts.get((j, i), "0") == f"{share:.0f}"
    rows = [t.get_text() for t in axis.get_yticklabels()]
    assert rows[2:] == ["two (0)", f"unknown ({np.sum(label < 0)})"]
    assert [t.get_text() for t in axis.get_xticklabels()] == [*NAMES, "rejected"]


@pytest.mark.parametrize(("classes", "numbered"), [(12, True), (13, False)])
def test_confusion_of_many_classes_has_no_numbers(tmp_path, drawn, classes, numbered):
    label = np.arange(-1, classes)
    names = ["a name that is much longer than a label can be"] * classes
    figures.confusion(tmp_path / "a.png", label, label, names, title="")
    axis = drawn[0].axes[0]
    assert len(axis.texts) == numbered * (classes + 1)
    assert len(axis.get_xticklabels()[0].get_text()) == figures.NAME_LENGTH
    np.testing.assert_array_equal(axis.images[0].get_array(), 100 * np.eye(classes + 1))


def test_wrong_inputs_are_named(tmp_path):
    path, label = tmp_path / "a.png", np.array([0, 1, -1])
    options = {"threshold": 0.5, "title": ""}
    with pytest.raises(ValueError, match="unknown ones"):
        figures.open_set_curves(path, np.ones(2), label[:2], label[:2], **options)
    with pytest.raises(ValueError, match="scores 2, label 3"):
        figures.score_histograms(path, np.ones(2), label, label, **options)
    with pytest.raises(ValueError, match="gates are all 0"):
        figures.expert_load(path, np.zeros((3, 2)), label, NAMES, title="")
    with pytest.raises(ValueError, match="features 2, label 3"):
        figures.feature_map(path, np.ones((2, 2)), label, NAMES, title="")
    assert not path.exists()


# Tables


def measurement(value, metric="auroc", method="mrn", source="a+b", **changes) -> Measurement:
    fields = {
        "experiment": "mmosr",
        "dataset": "toy",
        "split": "10 known of 27",
        "target": "",
        "num_examples": 10,
        "selection": "test",
        "seed": 0,
    }
    return Measurement(**fields | changes, value=value, metric=metric, method=method, source=source)


def parsed(markdown):
    """(section, subsection) -> {(method, modalities): {column: cell}}."""
    tables, section, part, header = {}, "", "", None
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("### "):
            section, part = line.removeprefix("### "), ""
        elif line.startswith("#### "):
            part = line.removeprefix("#### ")
        elif line.startswith("| method"):
            header = cells[2:]
            assert (section, part) not in tables
            table = tables[section, part] = {}
        elif line.startswith("| "):
            assert tuple(cells[:2]) not in table
            table[tuple(cells[:2])] = dict(zip(header, cells[2:], strict=True))
    return tables


FREE = {
    "macro_accuracy": "ACC",
    "auroc": "AUROC",
    "oscr": "OSCR",
    "aupr_known": "AUIN",
    "aupr_unknown": "AUOUT",
    "detection_accuracy": "DTACC",
    "tnr_at_95": "TNR",
    "ccr_at_10": "CCR@10",
}
REJECTING = {"os_star": "OS*", "unk": "UNK", "hos": "HOS"}


def test_every_number_stands_in_its_section_row_and_column():
    keys = list(
        itertools.product(
            ("toy", "birds"),
            ("5 known of 10", "5 known of 7"),
            (("mrn", "a+b"), ("single", "a")),
            [*FREE, *REJECTING, "accuracy"],
        )
    )
    rows = [
        measurement(
            i / 1000,
            metric,
            *key,
            dataset=dataset,
            split=split,
            selection="held_out" if metric in REJECTING else "test",
        )
        for i, (dataset, split, key, metric) in enumerate(keys)
    ]
    tables = parsed(recognition_tables(rows))
    assert len(tables) == 8
    for i, (dataset, split, key, metric) in enumerate(keys):
        free, rejecting = (tables[f"{dataset}: {split}", part] for part in ("", "Rejection"))
        assert set(free) == set(rejecting) == {("mrn", "a+b"), ("single", "a")}
        if metric != "accuracy":
            table, column = (free, FREE) if metric in FREE else (rejecting, REJECTING)
            assert table[key][column[metric]] == f"{i / 10:.2f}"


def test_a_threshold_chosen_on_test_examples_is_not_shown_as_held_out():
    rows = [
        measurement(0.5),
        measurement(0.9, "hos"),
        measurement(0.3, "hos", selection="held_out"),
    ]
    assert parsed(recognition_tables(rows))["toy: 10 known of 27", "Rejection"] == {
        ("mrn", "a+b"): {"OS*": "-", "UNK": "-", "HOS": "30.00"}
    }
    assert "Rejection" not in recognition_tables(rows[:1])


def test_scores_of_held_out_examples_are_not_mixed_into_those_of_the_test():
    rows = [measurement(0.5), measurement(0.9, selection="held_out")]
    table = parsed(recognition_tables(rows))["toy: 10 known of 27", ""]
    assert table["mrn", "a+b"]["AUROC"] == "50.00"


def test_seeds_are_class_splits_and_openness_is_no_percentage():
    rows = [measurement(v, seed=s) for s, v in enumerate((0.1, 0.2, 0.3))]
    text = recognition_tables([*rows, measurement(0.29289, "openness")])
    assert "over 3 class splits" in text and "Openness 0.293." in text
    assert parsed(text)["toy: 10 known of 27", ""]["mrn", "a+b"]["AUROC"] == "20.0 ± 24.8"
    assert "Openness" not in recognition_tables(rows)


def test_guessing_is_the_last_row_and_one_row_if_it_is_the_same_for_all_sources():
    rows = [
        measurement(0.5, method="chance"),
        measurement(0.9),
        measurement(0.8, source="a"),
        measurement(0.5, method="chance", source="a"),
    ]
    (table,) = parsed(recognition_tables(rows)).values()
    assert list(table) == [("mrn", "a+b"), ("mrn", "a"), ("chance", "any")]
    assert table["chance", "any"]["AUROC"] == "50.00"
    rows.append(measurement(0.25, "aupr_known", "chance", "a"))
    (table,) = parsed(recognition_tables(rows)).values()
    assert list(table)[2:] == [("chance", "a+b"), ("chance", "a")]


def class_accuracies(labels, predictions, **changes):
    return [
        measurement(
            np.mean(predictions[labels == c] == c), "class_accuracy", target=f"class {c}", **changes
        )
        for c in np.unique(labels)
    ]


def degradation(rows):
    return parsed(recognition_tables(rows))["toy: 10 known of 27", "Fusion degradation (eq. 7)"]


def test_fusion_degradation_is_the_mean_of_the_gaps_of_the_metric(rng):
    labels = rng.integers(0, 7, 200)
    noisy = lambda: np.where(rng.random(200) < 0.5, labels, rng.integers(0, 7, 200))
    single, fused = {"a": noisy(), "b": noisy()}, noisy()
    rows = class_accuracies(labels, fused) + class_accuracies(labels, labels, method="chance")
    for source, predictions in single.items():
        rows += class_accuracies(labels, predictions, method="single", source=source)
    gaps = np.array(list(class_accuracy_gap(labels, single, fused).values()))
    assert (gaps > 0).any() and (gaps <= 0).any()  # else the shares would say nothing
    assert degradation(rows) == {
        ("mrn", "a+b"): {
            "mean ΔACC (points)": f"{100 * gaps.mean():.2f}",
            "classes with ΔACC > 0 (%)": f"{100 * np.mean(gaps > 0):.2f}",
        }
    }


def test_fusion_is_compared_within_a_seed_with_the_modalities_that_it_has():
    def of(value, source, method, seed, target="x"):
        return measurement(value, "class_accuracy", method, source, seed=seed, target=target)

    rows = [
        of(0.6, "a", "single", 0),
        of(0.7, "b", "single", 0),
        of(0.9, "c", "single", 0),
        of(0.2, "a", "single", 1),
        of(0.1, "b", "single", 1),
        of(0.5, "a+b", "mrn", 0),  # gap 0.2: c is no part of it
        of(0.2, "a+b", "mrn", 1),  # gap 0, no degradation
        of(0.3, "a+b", "mrn", 1, target="y"),  # no single classifier has seen y
        of(0.5, "a+b+c", "mrn", 1),  # c has no classifier in this seed
        of(0.1, "a", "mrn", 0),
        of(0.1, "a+b", "single", 0),
    ]
    assert degradation(rows) == {
        ("mrn", "a+b"): {
            "mean ΔACC (points)": "10.0 ± 127.1",
            "classes with ΔACC > 0 (%)": "50.0 ± 635.3",
        }
    }
    assert "degradation" not in recognition_tables([m for m in rows if m.method != "single"])


def test_mean_ranks_stand_beside_the_difference_that_tells_rows_apart():
    rows = [
        measurement(value, "oscr", method, seed=seed)
        for method, values in {"mrn": (0.9, 0.6, 0.7), "add": (0.5, 0.7, 0.2)}.items()
        for seed, value in enumerate(values)
    ]
    text = recognition_tables([*rows, measurement(0.1, "oscr", "chance")])
    assert "Over 3 class splits" in text and "less than 1.13 are not" in text
    ranks = text.partition("Mean rank by OSCR")[2]
    assert ranks.index("mrn (a+b) |      1.33") < ranks.index("add (a+b) |      1.67")
    assert "Mean rank" not in recognition_tables(rows[:1])


def test_the_use_of_experts_is_a_table_of_its_own():
    rows = [measurement(0.5, "experts_used"), measurement(0.2, "experts_per_example")]
    table = parsed(recognition_tables(rows))["toy: 10 known of 27", "Experts"]
    assert table["mrn", "a+b"] == {"used by all": "50.00", "used by an example": "20.00"}
