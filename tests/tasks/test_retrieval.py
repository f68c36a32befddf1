"""Retrieval against plain NumPy: metrics, chance, volumes, captions, absence, withheld pairs."""

import dataclasses
import itertools
import tracemalloc
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_case import as_it_is, trained
from threadpoolctl import threadpool_limits

from unirep_jax import losses
from unirep_jax.data import FeatureSet, gather
from unirep_jax.evaluation import retrieval
from unirep_jax.evaluation.embedding import map_examples, represent
from unirep_jax.evaluation.retrieval import Rows, cosine, directions, height, search, volume
from unirep_jax.methods.method import Embedding, RepresentationMethod
from unirep_jax.tasks.representation import Subject
from unirep_jax.tasks.retrieval.task import Retrieval


def unit_rows(rng, count, dim=5):
    vectors = rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def measures_of_orders(orders, relevant):
    """Rank of the first relevant item and average precision of each query, by its order."""
    ranks, precisions = [], []
    for order, row in zip(orders, relevant, strict=True):
        places = 1 + np.flatnonzero(row[order])
        ranks.append(places[0])
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    return np.array(ranks), np.array(precisions)


def reference(*searches):
    """All metrics of searches without ties; item and label are pairs (of queries, of items)."""
    ranks, precisions, by_class = [], [], [np.zeros(0)]
    for scores, item, label in searches:
        orders = np.argsort(-np.asarray(scores), axis=1)
        of_item = measures_of_orders(orders, item[0][:, None] == item[1][None])
        ranks.append(of_item[0])
        precisions.append(of_item[1])
        alike = (label[0][:, None] == label[1][None]) & (label[1][None] >= 0)
        some = alike.any(1)
        if some.any():
            by_class.append(measures_of_orders(orders[some], alike[some])[1])
    ranks, precisions, by_class = map(np.concatenate, (ranks, precisions, by_class))
    result = {f"recall_at_{k}": np.mean(ranks <= k) for k in (1, 5, 10)}
    result |= {"median_rank": np.median(ranks), "map": precisions.mean()}
    return result | ({"class_map": by_class.mean()} if len(by_class) else {})


def values(found):
    return {metric: value for metric, value, _ in found}


def random_search(rng, queries=23, items=31):
    """Queries and items with several rows of the same item, and some labels unknown."""
    item = rng.permutation(np.arange(items) % 17)
    asked = rng.integers(0, 17, queries)
    label = rng.integers(-1, 4, 17)
    sides = [(unit_rows(rng, len(i)), i, label[i]) for i in (asked, item)]
    return [Rows((vectors,), i, c) for vectors, i, c in sides]


def test_a_search_finds_what_sorting_finds(rng):
    queries, items = random_search(rng)
    scores = queries.vectors[0].astype(float) @ items.vectors[0].T.astype(float)
    expected = reference((scores, (queries.item, items.item), (queries.label, items.label)))
    found = values(search(queries, items, cosine))
    assert list(found) == list(expected)
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, rel=1e-12), metric


@pytest.mark.parametrize("scores_at_a_time", [1, 31, 7 * 31, 22 * 31])
def test_tiles_change_nothing(scores_at_a_time, rng, monkeypatch):
    queries, items = random_search(rng)
    whole = list(search(queries, items, cosine))
    monkeypatch.setattr(retrieval, "TILE", scores_at_a_time)
    shapes = []

    def seen(q, i):
        shapes.append(q[0].shape[0])
        return cosine(q, i)

    assert list(search(queries, items, seen)) == whole
    assert shapes == [max(scores_at_a_time // 31, 1)], "one shape, so one compilation"


def test_chance_is_the_mean_over_all_orders(rng):
    """720 orders of six rows; items and classes of unlike sizes, one query without a class."""
    item, asked = np.array([0, 0, 0, 1, 2, 1]), np.array([2, 0, 1, 2])
    label = np.array([0, 1, -1])
    queries = Rows((unit_rows(rng, 4),), asked, label[asked])
    items = Rows((unit_rows(rng, 6),), item, label[item])
    queries.label[0] = 0
    relevant = asked[:, None] == item[None]
    alike = (queries.label[:, None] == items.label[None]) & (items.label[None] >= 0)
    ranks, precisions, of_class = [], [], []
    for order in itertools.permutations(range(6)):
        rank, precision = measures_of_orders([list(order)] * 4, relevant)
        ranks.append(rank)
        precisions.append(precision)
        of_class.append(measures_of_orders([list(order)] * 3, alike[alike.any(1)])[1])
    expected = {f"recall_at_{k}": np.mean(np.array(ranks) <= k) for k in (1, 5, 10)}
    expected |= {"median_rank": np.median(np.mean(ranks, axis=0)), "map": np.mean(precisions)}
    expected["class_map"] = np.mean(of_class)
    by_chance = {metric: chance for metric, _, chance in search(queries, items, cosine)}
    assert by_chance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("score", [cosine, volume, height])
@pytest.mark.parametrize("scores_at_a_time", [1 << 24, 300])
def test_a_collapsed_embedding_scores_exactly_as_chance(score, scores_at_a_time, monkeypatch, rng):
    monkeypatch.setattr(retrieval, "TILE", scores_at_a_time)
    same = np.tile(unit_rows(rng, 1, 19), (37, 1))
    label = np.arange(37) % 5
    items = Rows((same,) if score is cosine else (same, same), np.arange(37), label)
    for metric, value, by_chance in search(Rows((same,), np.arange(37), label), items, score):
        assert value == pytest.approx(by_chance, rel=1e-12), metric


def test_classes_are_left_out_where_nothing_is_labelled(rng):
    rows = Rows((unit_rows(rng, 4),), np.arange(4), np.full(4, -1))
    assert "class_map" not in values(search(rows, rows, cosine))


def determinant_volumes(vectors, groups):
    """√det of the Gram matrix of each vector with each group, in float64."""
    shape = (len(vectors), len(groups[0]))
    every = (vectors[:, None], *(group[None] for group in groups))
    rows = np.stack([np.broadcast_to(v, (*shape, v.shape[-1])) for v in every], axis=-2)
    return np.sqrt(np.linalg.det(rows.astype(float) @ np.swapaxes(rows, -1, -2).astype(float)))


@pytest.mark.parametrize("others", [1, 2, 3])
def test_volume_is_minus_the_root_of_the_gram_determinant_whichever_side_is_the_group(others, rng):
    one, group = unit_rows(rng, 6), tuple(unit_rows(rng, 4) for _ in range(others))
    expected = -determinant_volumes(one, group)
    np.testing.assert_allclose(volume((one,), group), expected, atol=2e-6)
    np.testing.assert_allclose(volume(group, (one,)), expected.T, atol=2e-6)


def test_height_is_minus_the_sine_of_the_angle_with_the_span_of_the_group(rng):
    one, group = unit_rows(rng, 6), (unit_rows(rng, 4), unit_rows(rng, 4))
    expected = np.empty((6, 4))
    for i, j in np.ndindex(expected.shape):
        basis, _ = np.linalg.qr(np.stack([g[j] for g in group]).astype(float).T)
        expected[i, j] = -np.linalg.norm(one[i] - basis @ (basis.T @ one[i]))
    np.testing.assert_allclose(height((one,), group), expected, atol=2e-6)
    np.testing.assert_allclose(height(group, (one,)), expected.T, atol=2e-6)


# -- directions ----------------------------------------------------------------------------------


def made(names, *, count=40, present=None, group=None, seed=0):
    """Random embeddings, and labels and splits; features that nobody reads."""
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 3, count)
    train = rng.random(count) < 0.4
    features = {m: np.zeros((count, 1), np.float32) for m in names}
    data = FeatureSet.from_arrays("made", features, label, train, present=present, group=group)
    return {m: unit_rows(rng, count) for m in names}, data


def side(embeddings, data, modalities, captions, of):
    """Rows of the test split that have these of a group alone, found one at a time, in float64."""
    rows, seen = [], set()
    for row in np.flatnonzero(~data.train):
        if {m for m in of if data.present[m][row]} != {*modalities}:
            continue
        if captions and captions not in modalities:
            if data.group[row] in seen:
                continue
            seen.add(data.group[row])
        rows.append(row)
    return np.array(rows, int), [embeddings[m].astype(float) for m in modalities]


def members(group):
    """Every set of members that somebody may have of a group."""
    return [c for n in range(1, len(group) + 1) for c in itertools.combinations(group, n)]


def scores_of(score, queries, items):
    if score == "cosine":
        return queries[0] @ items[0].T
    if len(queries) > 1:
        return scores_of(score, items, queries).T
    # Of a group of which one member is left, the base is 1.
    base = [np.sqrt(np.linalg.det(g @ g.T)) for g in np.stack(items, axis=1)]
    return -determinant_volumes(queries[0], items) / (base if score == "height" else 1)


def expected_directions(embeddings, data, captions=""):
    """(score, source, target) -> number of queries and all metrics."""
    names, result = list(embeddings), {}
    sides = {m: [m] for m in names}
    groups = {"+".join(r): r for r in ([m for m in names if m != one] for one in names)}
    cases = [(s, *p) for s in ("cosine", "volume") for p in itertools.permutations(names, 2)]
    if len(names) > 2:
        for score, (group, rest) in itertools.product(("volume", "height"), groups.items()):
            (one,) = {*names} - {*rest}
            cases += [(score, one, group), (score, group, one)]
    identity = data.group if captions else np.arange(len(data.label))
    for score, source, target in cases:
        wholes, parts = [(sides | groups)[one] for one in (source, target)], []
        for source_has, target_has in itertools.product(*map(members, wholes)):
            query_rows, queries = side(embeddings, data, source_has, captions, wholes[0])
            item_rows, items = side(embeddings, data, target_has, captions, wholes[1])
            query_rows = query_rows[np.isin(identity[query_rows], identity[item_rows])]
            if len(query_rows):
                vectors = [v[query_rows] for v in queries], [v[item_rows] for v in items]
                both = [(a[query_rows], a[item_rows]) for a in (identity, data.label)]
                parts.append((scores_of(score, *vectors), *both))
        count = sum(len(scores) for scores, *_ in parts)
        result[score, source, target] = (count, reference(*parts))
    return result


def holes(count):
    rng = np.random.default_rng(1)
    present = {"b": rng.random(count) < 0.7, "a": rng.random(count) < 0.6}
    present["b"] |= ~present["a"]  # an example must have something
    return present


@pytest.mark.parametrize(
    ("names", "captions", "absent"),
    [("ba", "", True), ("bac", "", False), ("bac", "a", True), ("abcd", "", False)],
)
def test_every_direction_equals_plain_numpy(names, captions, absent):
    present = holes(40) if absent else None
    group = np.arange(40) // 3 if captions else None
    embeddings, data = made(names, present=present, group=group)
    expected = expected_directions(embeddings, data, captions)
    found = {}
    for row in directions(embeddings, data, captions=captions):
        key = (row["selection"], row["source"], row["target"])
        assert row["split"] == "all" and row["chance"] > 0 and np.isfinite(row["chance"])
        count, metrics = found.setdefault(key, (row["num_examples"], {}))
        assert count == row["num_examples"] and row["metric"] not in metrics
        metrics[row["metric"]] = row["value"]
    assert list(found) == list(expected)
    for key, (count, metrics) in expected.items():
        assert found[key][0] == count, key
        assert found[key][1] == pytest.approx(metrics, rel=1e-12), key


def one(rows, **wanted):
    (row,) = (r for r in rows if all(r[k] == v for k, v in wanted.items()))
    return row


def test_an_aligned_group_that_lacks_a_member_is_found_among_its_like():
    """Heights over one vector are larger than over two, whoever agrees with whom."""
    rng = np.random.default_rng(0)
    present = {"c": np.arange(40) % 2 == 0}
    _, data = made("abc", present=present)
    base = unit_rows(rng, 40, 32)
    near = {m: base + 0.3 * unit_rows(rng, 40, 32) for m in "abc"}
    near = {m: v / np.linalg.norm(v, axis=1, keepdims=True) for m, v in near.items()}
    rows = list(directions(near, data))
    for source, target in (("a", "b+c"), ("b+c", "a")):
        wanted = {"selection": "height", "source": source, "target": target}
        found = one(rows, **wanted, metric="recall_at_1")
        assert found["value"] == 1 and found["num_examples"] == (~data.train).sum()
        assert found["chance"] < 0.2


def test_captions_find_their_image_and_an_image_any_of_its_captions():
    """Three captions an image, in no order; the image's vector stands at each of its rows."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(12), 3))
    features = {m: np.zeros((36, 1), np.float32) for m in ("image", "text")}
    data = FeatureSet.from_arrays("c", features, group % 2, group >= 8, group=group)
    image = unit_rows(rng, 12, 32)[group]
    text = image.copy()
    text[np.unique(group, return_index=True)[1]] *= -1  # the first caption of each is wrong
    rows = list(directions({"image": image, "text": text}, data, captions="text"))
    search = {"selection": "cosine", "source": "image", "target": "text"}
    assert one(rows, **search, metric="recall_at_1")["value"] == 1
    assert one(rows, **search, metric="recall_at_1")["num_examples"] == 8
    assert one(rows, **search, metric="recall_at_1")["chance"] == pytest.approx(3 / 24)
    precision = one(rows, **search, metric="map")["value"]
    assert (2 + 3 / 24) / 3 <= precision < 1, "two captions first, the third anywhere"
    search = {"selection": "cosine", "source": "text", "target": "image"}
    found = one(rows, **search, metric="recall_at_1")
    assert found["num_examples"] == 24 and found["chance"] == pytest.approx(1 / 8)
    assert found["value"] == pytest.approx(2 / 3)

    saying = dataclasses.replace(data, captions="text")
    seen = SimpleNamespace(vectors={"image": image, "text": text})
    for task, its_data in ((Retrieval(), saying), (Retrieval(captions="text"), data)):
        subject = Subject("c", Linear(), seen, its_data, 0)
        found = [row | {"split": "all"} for _, row in task.measure(subject)]
        assert found == rows, "the data say it, or the setting"


def test_a_modality_that_no_test_example_has_is_not_searched():
    absent = np.zeros(40, bool)
    embeddings, data = made("abc", present={"c": absent})
    assert {(r["source"], r["target"]) for r in directions(embeddings, data)} == {
        ("a", "b"),
        ("b", "a"),
    }


# -- embeddings of a whole set -------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64])
def test_mapping_examples_is_a_plain_loop(batch_size, rng):
    x = rng.normal(size=(10, 3)).astype(np.float32)
    present = {"a": np.arange(10) % 4 != 1}
    features = {"b": x, "a": np.repeat(x, 2, axis=1)}
    data = FeatureSet.from_arrays("x", features, np.arange(10), x[:, 0] > 0, present=present)
    traces = []

    def compute(weight, batch):
        traces.append(batch["features"]["b"].shape)
        assert batch.keys() == {"features", "present"}
        total = (batch["features"]["a"] * weight).sum(1)
        return {"total": total, "rest": (batch["present"]["a"], batch["features"]["b"])}

    found = map_examples(compute, jnp.float32(2), data, batch_size=batch_size)
    assert traces == [(batch_size, 3)], "compiled once, the last batch included"
    expected = np.where(present["a"], 2 * features["a"].sum(1), 0)
    np.testing.assert_allclose(found["total"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["rest"][0], present["a"])
    np.testing.assert_array_equal(found["rest"][1], x)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))


class Linear(RepresentationMethod):
    """Modality-wise linear maps, and a state that scales."""

    def for_data(self, shapes, classes):
        return self

    def embed(self, params, state, modality, features):
        x = features.reshape(len(features), -1)
        return Embedding.of_vectors(losses.unit(state["scale"] * x @ params[modality]))


def linear_maps(data, dim=6):
    rng = np.random.default_rng(0)
    sizes = {m: int(np.prod(x.shape[1:])) for m, x in data.features.items()}
    return {m: rng.normal(size=(n, dim)).astype(np.float32) for m, n in sizes.items()}


def test_embedding_examples_embeds_every_modality_of_every_example(paired_features, tmp_path):
    params = linear_maps(paired_features)
    made = trained(
        Linear(),
        as_it_is(paired_features),
        tmp_path,
        name="linear",
        params=params,
        state={"scale": jnp.float32(-1)},
    )
    found = represent(made.model, paired_features).vectors
    assert found.keys() == paired_features.features.keys()
    for m, x in paired_features.features.items():
        vectors = -x.reshape(len(x), -1).astype(float) @ params[m]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(found[m], vectors, atol=1e-5)


# -- the protocol --------------------------------------------------------------------------------


def test_without_withheld_modalities_training_sees_everything(paired_features):
    assert Retrieval().shown(paired_features, 0) is paired_features
    named = Retrieval(captions="caption").shown(paired_features, 0)
    assert named.captions == "caption" and named.features == paired_features.features
    bound = Retrieval(withheld=("camera", "sensor"), oracle=True)
    assert bound.shown(paired_features, 0) is paired_features
    assert bound._split("camera", "sensor") == "unseen"


def test_one_withheld_modality_is_never_trained_on(paired_features):
    found = Retrieval(withheld=("sensor",)).shown(paired_features, 0)
    train = paired_features.train
    assert not found.present["sensor"][train].any() and found.present["sensor"][~train].all()
    assert found.present["camera"].all() and found.present["caption"].all()
    assert paired_features.present["sensor"].all(), "the whole set stays as it is"
    assert found.modalities == paired_features.modalities == tuple(found.present)
    batch = gather(found, np.flatnonzero(train))
    assert not batch["features"]["sensor"].any() and batch["features"]["camera"].any()


@pytest.mark.parametrize("withheld", [("camera", "caption"), ("sensor", "camera")])
def test_two_withheld_modalities_never_meet_in_training(withheld, paired_features):
    absent = np.arange(96) % 5 == 0
    data = dataclasses.replace(
        paired_features, present=paired_features.present | {withheld[0]: ~absent}
    )
    found = Retrieval(withheld=withheld).shown(data, 0)
    first, second = (found.present[m] for m in withheld)
    train = data.train
    assert not (first & second & train).any()
    assert not (first & absent).any(), "what is absent stays so"
    assert ((first | second) == ~absent)[train & ~absent].all(), "each example keeps one"
    assert min(first[train].sum(), second[train].sum()) > train.sum() / 5
    (rest,) = {*data.modalities} - {*withheld}
    assert found.present[rest].all()
    for m in data.modalities:
        np.testing.assert_array_equal(found.present[m][~train], data.present[m][~train])


def test_what_an_example_keeps_is_a_function_of_the_seed(paired_features):
    protocol = Retrieval(withheld=("camera", "sensor"))
    first, again, other = (protocol.shown(paired_features, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.present["camera"], again.present["camera"])
    assert (first.present["camera"] != other.present["camera"]).any()


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"withheld": ("radar",)}, "modality 'radar' is none of camera, sensor, caption"),
        ({"captions": "text"}, "modality 'text' is none of camera, sensor, caption"),
        ({"oracle": True}, "task.oracle=True without task.withheld"),
        ({"withheld": ("camera", "sensor", "caption")}, "leaves nothing to train on"),
        ({"withheld": ("camera", "camera")}, "names a modality twice"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(settings, pattern, paired_features):
    with pytest.raises(ValueError, match=pattern):
        Retrieval(**settings).shown(paired_features, 0)


def test_of_two_modalities_none_can_be_withheld():
    _, data = made("ab")
    for withheld in (("a",), ("a", "b")):
        with pytest.raises(ValueError, match="leaves nothing to train on"):
            Retrieval(withheld=withheld).shown(data, 0)


@pytest.mark.parametrize(
    ("withheld", "source", "target", "split"),
    [
        ((), "a", "b+c", "all"),
        (("a",), "b", "c", "seen"),
        (("a",), "b", "a", "unseen"),
        (("a",), "b+a", "c", "unseen"),
        (("a", "b"), "a", "c", "seen"),
        (("a", "b"), "b", "a", "unseen"),
        (("a", "b"), "c", "a+b", "unseen"),
        (("a", "b"), "a", "b+c", "unseen"),
        (("a", "b", "d"), "c+d", "a", "unseen"),
        (("a", "b", "d"), "c", "d", "seen"),
    ],
)
def test_a_direction_is_unseen_where_training_had_not_its_two_sides(
    withheld, source, target, split
):
    assert Retrieval(withheld=withheld)._split(source, target) == split


def test_evaluation_measures_every_direction_beside_chance(paired_features, tmp_path):
    import sklearn.manifold  # noqa: F401  # only libraries that are loaded can be limited

    made = trained(
        Linear(),
        as_it_is(paired_features),
        tmp_path,
        name="linear",
        seed=3,
        params=linear_maps(paired_features),
        state={"scale": jnp.float32(1)},
    )
    protocol = Retrieval(withheld=("camera", "sensor"), control=False)
    with threadpool_limits(1):  # threads of t-SNE wait for each other where cores are busy
        found = protocol.evaluate(made)
    embeddings = represent(made.model, paired_features).vectors
    rows = list(directions(embeddings, paired_features))
    assert len(found) == 2 * len(rows) == 2 * 24 * 6
    for row, own, by_chance in zip(rows, found[::2], found[1::2], strict=True):
        assert (own.method, by_chance.method) == ("linear", "chance")
        assert (own.value, by_chance.value) == (row["value"], row["chance"])
        assert dataclasses.replace(by_chance, method="linear", value=own.value) == own
        assert (own.experiment, own.dataset, own.seed) == ("retrieval", "toy", 3)
        sides = {*own.source.split("+"), *own.target.split("+")}
        assert own.split == ("unseen" if {"camera", "sensor"} <= sides else "seen")
    assert "pairs that training never had" in protocol.tables(found)
    for name in ("embedding_map.png", "transport_plans.png"):
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_progress_counts_every_query_of_every_search(rng, monkeypatch, paired_features):
    counted = []

    class Counted(retrieval.Bar):
        def __init__(self, what, total, unit):
            super().__init__(what, total, unit)
            counted.append(-total)

        def update(self, count=1):
            counted.append(count)

    monkeypatch.setattr(retrieval, "Bar", Counted)
    monkeypatch.setattr(retrieval, "TILE", 70)
    present = {m: p.copy() for m, p in paired_features.present.items()}
    present["sensor"][70:75] = False  # queries without a relevant item count as done
    data = dataclasses.replace(paired_features, present=present)
    embeddings = {m: unit_rows(rng, len(data.label)) for m in data.modalities}
    rows = list(directions(embeddings, data))
    assert len(rows) > 100 and len(counted) > 24 and sum(counted) == 0


def test_memory_does_not_grow_with_the_number_of_scores(rng, monkeypatch):
    monkeypatch.setattr(retrieval, "TILE", 1 << 16)
    monkeypatch.setattr(retrieval, "THREADS", 2)
    count = 3_000
    items = Rows((unit_rows(rng, count),), np.arange(count), np.arange(count) % 7)
    tracemalloc.start()
    try:
        list(search(items, items, cosine))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count**2, "bytes: a quarter of the matrix of float32 scores"
