"""Retrieval tables hold each number where it belongs; the pictures of an embedding are drawn."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from unirep_jax import losses
from unirep_jax.data import FeatureSet
from unirep_jax.evaluation import embedding_figures
from unirep_jax.evaluation.embedding_figures import embedding_map, transport_plans
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.tasks.retrieval.tables import retrieval_tables


def measurement(value, source="a", target="b", metric="recall_at_1", **changes) -> Measurement:
    fields = {
        "experiment": "retrieval",
        "method": "mover",
        "dataset": "toy",
        "split": "all",
        "num_examples": 10,
        "selection": "cosine",
        "seed": 0,
    }
    return Measurement(**fields | changes, value=value, source=source, target=target, metric=metric)


def parsed(markdown):
    """Title of each section -> {(direction, method): {column: cell}}."""
    sections = {}
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("### "):
            table = sections[line.removeprefix("### ")] = {}
        elif line.startswith("| direction"):
            header = cells[2:]
        elif line.startswith("| "):
            assert tuple(cells[:2]) not in table
            table[tuple(cells[:2])] = dict(zip(header, cells[2:], strict=True))
    return sections


def test_every_number_stands_in_the_row_of_its_direction_and_method_and_in_its_column():
    metrics = ("recall_at_1", "recall_at_5", "recall_at_10", "map", "class_map", "median_rank")
    columns = ("R@1", "R@5", "R@10", "mAP", "class mAP", "median rank")
    value = {
        key: (place + 1) / 100
        for place, key in enumerate(
            itertools.product([("a", "b"), ("b", "a")], ["mover", "chance"], metrics)
        )
    }
    rows = [
        measurement(v, source=s, target=t, method=method, metric=metric)
        for ((s, t), method, metric), v in value.items()
    ]
    ((title, table),) = parsed(retrieval_tables(rows)).items()
    assert title == "toy: one modality against one, by cosine"
    assert list(table) == [
        ("a → b", "mover"),
        ("a → b", "chance"),
        ("b → a", "mover"),
        ("b → a", "chance"),
        ("mean of all", "mover"),
        ("mean of all", "chance"),
    ]
    for (pair, method, metric), v in value.items():
        scale = 1 if metric == "median_rank" else 100
        line = table[" → ".join(pair), method]
        assert line[columns[metrics.index(metric)]] == f"{scale * v:.2f}"
        both = [value[p, method, metric] for p in (("a", "b"), ("b", "a"))]
        mean = table["mean of all", method][columns[metrics.index(metric)]]
        assert mean == f"{scale * np.mean(both):.2f}"


def test_medians_are_ranks_and_not_percent():
    rows = [measurement(v, metric="median_rank", seed=s) for s, v in enumerate((1.0, 1.5, 2.0))]
    ((_, table),) = parsed(retrieval_tables(rows)).items()
    assert table == {("a → b", "mover"): {"median rank": "1.5 ± 1.2"}}


def test_a_direction_alone_has_no_mean_and_an_unmeasured_metric_no_column():
    rows = [measurement(0.5), measurement(0.25, metric="map"), measurement(0.1, method="chance")]
    ((_, table),) = parsed(retrieval_tables(rows)).items()
    assert table == {
        ("a → b", "mover"): {"R@1": "50.00", "mAP": "25.00"},
        ("a → b", "chance"): {"R@1": "10.00", "mAP": "-"},
    }


def test_data_sets_scores_groups_and_splits_have_sections_of_their_own():
    kinds = {
        "toy: one modality against one, by cosine": {},
        "toy: one modality against one, by volume": {"selection": "volume"},
        "toy: one modality against the others, by volume": {"selection": "volume", "target": "b+c"},
        "toy: one modality against the others, by height (volume of all over volume of the "
        "group)": {"selection": "height", "source": "b+c", "target": "a"},
        "toy: one modality against one, by cosine; pairs that training had in one example": {
            "split": "seen"
        },
        "toy: one modality against one, by cosine; pairs that training never had in one example": {
            "split": "unseen"
        },
        "other: one modality against one, by cosine": {"dataset": "other"},
    }
    rows = [measurement(place / 10, **changes) for place, changes in enumerate(kinds.values())]
    sections = parsed(retrieval_tables(rows))
    assert list(sections) == list(kinds)
    for place, table in enumerate(sections.values()):
        ((_, line),) = table.items()
        assert line == {"R@1": f"{10 * place:.2f}"}
    assert ("b+c → a", "mover") in sections[next(t for t in kinds if "height" in t)]


# -- figures -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of t-SNE that wait for each other on busy cores take ten times as long."""
    import sklearn.manifold  # noqa: F401  # only libraries that are loaded can be limited

    with threadpool_limits(1):
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, in order."""
    figures, save = [], Figure.savefig

    def remember(self, *args, **kwargs):
        figures.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def small_set(count, names="ab", label=None, present=None):
    label = np.arange(2 * count) % 3 if label is None else label
    features = {m: np.zeros((2 * count, 1), np.float32) for m in names}
    train = np.arange(2 * count) < count
    return FeatureSet.from_arrays("toy", features, label, train, present=present)


def vectors(data, rng, dim=4):
    rows = {m: rng.normal(size=(len(data.label), dim)) for m in data.modalities}
    return {m: np.asarray(losses.unit(x.astype(np.float32))) for m, x in rows.items()}


def points(axis):
    return sum(len(collection.get_offsets()) for collection in axis.collections)


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_map_is_drawn_of_a_few_points(count, tmp_path, drawn, rng):
    data = small_set(count)
    embedding_map(tmp_path / "map.png", vectors(data, rng), data)
    assert is_png(tmp_path / "map.png")
    assert [points(axis) for axis in drawn[0].axes] == [2 * count, 2 * count]


def test_a_map_shows_present_test_points_by_modality_and_the_classes_that_they_have(
    tmp_path, drawn, rng, monkeypatch
):
    monkeypatch.setattr(embedding_figures, "SHOWN_CLASSES", 2)
    label = np.array([0] * 12 + [3] * 5 + [-1] * 2 + [1] + [2] * 4)
    present = {"b": np.arange(24) % 2 == 0}
    data = small_set(12, label=label, present=present)
    embedding_map(tmp_path / "map.png", vectors(data, rng), data)
    left, right = drawn[0].axes
    assert [len(c.get_offsets()) for c in left.collections] == [12, 6]
    assert points(right) == 18
    names = [text.get_text() for text in right.get_legend().get_texts()]
    assert names == ["other classes", "2", "3"], "no class of training examples alone"


def test_a_map_of_unlabelled_or_collapsed_points_is_drawn(tmp_path, drawn, rng):
    data = small_set(6, label=np.full(12, -1))
    embedding_map(tmp_path / "map.png", vectors(data, rng), data)
    assert points(drawn[0].axes[1]) == 12
    data = small_set(6)
    same = {m: np.full((12, 4), 0.5, np.float32) for m in "ab"}
    embedding_map(tmp_path / "same.png", same, data)
    assert np.isfinite(drawn[1].axes[0].collections[0].get_offsets()).all()


def test_plans_are_drawn_for_every_pair_sorted_by_class(tmp_path, drawn, rng):
    data = small_set(9, names="abcd", present={"a": np.arange(18) != 10})
    embeddings = vectors(data, rng)
    embeddings |= {"b": embeddings["a"]}
    transport_plans(tmp_path / "plans.png", embeddings, data, epsilon=0.01)
    assert is_png(tmp_path / "plans.png")
    axes = [axis for axis in drawn[0].axes if axis.images]
    pairs = [(axis.get_ylabel(), axis.get_xlabel()) for axis in axes]
    assert pairs == [*itertools.combinations("abcd", 2)]
    rows = np.array([9, 12, 15, 13, 16, 11, 14, 17])  # by class: 0 0 0 1 1 2 2 2
    np.testing.assert_array_equal(axes[0].get_xticks(), [2.5, 4.5])
    for axis, (a, b) in zip(axes, pairs, strict=True):
        plan = losses.sinkhorn_plan(embeddings[a][rows], embeddings[b][rows], epsilon=0.01).plan
        share = np.asarray(axis.images[0].get_array()) ** 2
        np.testing.assert_allclose(share, 8 * plan, atol=1e-5)
        assert axis.get_title() == f"{100 * np.trace(plan):.0f} % of mass on true pairs"
    assert axes[0].get_title() == "100 % of mass on true pairs"
    assert "8 test examples" in drawn[0].get_suptitle()


def test_plans_are_of_evenly_spaced_examples_and_nothing_where_none_is_complete(
    tmp_path, drawn, rng, monkeypatch
):
    monkeypatch.setattr(embedding_figures, "PLAN_EXAMPLES", 4)
    data = small_set(10)
    transport_plans(tmp_path / "plans.png", vectors(data, rng), data, epsilon=0.1)
    assert drawn[0].axes[0].images[0].get_array().shape == (4, 4)
    half = np.arange(20) % 2 == 0
    data = small_set(10, present={"a": half, "b": ~half})
    transport_plans(tmp_path / "none.png", vectors(data, rng), data, epsilon=0.1)
    assert len(drawn) == 1 and not (tmp_path / "none.png").exists()
