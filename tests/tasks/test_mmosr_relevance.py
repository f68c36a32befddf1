"""Relevance of tokens is Grad-CAM's, and the picture shows it where the tokens are."""

import dataclasses

import jax
import numpy as np
import pytest
from evaluation_case import as_it_is, trained
from matplotlib.figure import Figure

from unirep_jax.data import FeatureSet, Kind, gather, standardization
from unirep_jax.methods import OpenSetClassifier
from unirep_jax.methods.relevance import token_relevance
from unirep_jax.tasks.mmosr.relevance import Explained, draw_relevance, grid, relevance_figure

LINEAR = OpenSetClassifier(fusion="concat", experts=0, hidden=0, width=6, layers=0, images=(1, 1))
NAMES = ("zero", "one", "two", "three")


def fitted(method, data):
    method = method.for_features(data)
    shapes = {m: x.shape[1:] for m, x in data.features.items()}
    return method, *method.init(jax.random.key(0), shapes, standardization(data))


def test_relevance_of_a_linear_classifier_is_what_each_token_adds_to_the_logit(paired_features):
    names = ("camera", "sensor")
    data = dataclasses.replace(
        paired_features, features={m: paired_features.features[m] for m in names}
    )
    method, params, state = fitted(LINEAR, data)
    batch = gather(data, np.arange(5))
    present = batch["present"] | {"sensor": np.array([True, True, True, True, False])}
    found = token_relevance(method, params, state, batch["features"], present)
    (decision,) = method.classify(params, state, batch["features"], present).values()
    weights = np.asarray(params["network"]["classifier"]["kernel"], np.float64)
    network = method.network(tuple((m, x.shape[1:]) for m, x in batch["features"].items()))
    inputs = method.inputs(batch["features"], state["statistics"])
    read = lambda x, p: network.apply(
        {"params": params["network"]}, x, p, train=False, method="read"
    )
    tokens, _ = jax.vmap(read)(inputs, present)
    named = np.asarray(decision.logits).argmax(1)
    for place, m in enumerate(names):
        own = weights[6 * place : 6 * place + 6, named].T  # of the class named
        x = np.asarray(tokens[m], np.float64)
        # The mean over the tokens is in the gradient: what a token adds is its share of the mean.
        expected = np.maximum(np.einsum("bpd,bd->bp", x, own) / x.shape[1], 0)
        expected[~present[m]] = 0
        np.testing.assert_allclose(found[m], expected, rtol=1e-3, atol=1e-5)
        assert (expected > 0).any() and (expected == 0).any()
    late = OpenSetClassifier(fusion="late", experts=0)
    with pytest.raises(ValueError, match="relevance needs one network"):
        token_relevance(late, params, state, batch["features"], present)


@pytest.mark.parametrize(
    ("shape", "positions", "expected"),
    [
        ((32, 32, 3), 16, (1, 4, 4)),
        ((224, 224, 3), 49, (1, 7, 7)),
        ((5, 33, 48, 1), 5 * 9 * 12, (5, 9, 12)),
    ],
)
def test_the_map_of_a_picture_has_its_proportions(shape, positions, expected):
    assert grid(shape, positions) == expected


def test_a_number_of_positions_that_no_halving_gives_is_refused():
    with pytest.raises(ValueError, match="no map of 17 positions"):
        grid((32, 32, 3), 17)


@pytest.fixture
def saved(monkeypatch):
    figures, savefig = [], Figure.savefig

    def remember(figure, path, **settings):
        figures.append(figure)
        savefig(figure, path, **settings)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def test_a_row_has_one_scale_and_the_frame_that_matters_most(tmp_path, saved, rng):
    kinds = {"film": Kind.VIDEO, "words": Kind.WORDS, "walk": Kind.SEQUENCE}
    film = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    heat = np.array([0, 1, 0, 0, 0, 0, 2.0, 0])  # of two maps of 2 × 2; the second has the most
    relevance = {"film": heat, "words": np.array([4.0, 0, 1]), "walk": np.array([0.0, 1])}
    features = {"film": film, "words": np.array([3, 1, 2]), "walk": rng.normal(size=(2, 5))}
    examples = [Explained(features, relevance, "one", "two")]
    draw_relevance(tmp_path / "relevance.png", examples, kinds, title="toy")
    left = saved[0].axes[0]
    layers = {axis.get_title(): [i.get_array().data for i in axis.images] for axis in saved[0].axes}
    np.testing.assert_allclose(layers["film"][0], film[1].mean(-1))
    np.testing.assert_allclose(layers["film"][1], [[0, 0], [0.5, 0]])
    np.testing.assert_allclose(layers["walk"][1], [[0, 0.25]])
    np.testing.assert_allclose(layers["words"], [[[1, 0, 0.25]]])
    assert left.get_ylabel() == "one (two)"


def test_the_task_draws_one_known_test_example_of_each_class(tmp_path, saved, rng):
    label = np.repeat([0, 1, 2, 3, -1], 4).astype(np.int32)
    picture = rng.normal(size=(20, 8, 8, 1)).astype(np.float32)
    features = {"picture": picture, "vector": rng.normal(size=(20, 3)).astype(np.float32)}
    train = np.tile([True, True, False, False], 5) & (label >= 0)
    data = FeatureSet.from_arrays("toy", features, label, train, class_names=NAMES)
    method, params, state = fitted(dataclasses.replace(LINEAR, width=8), data)
    run = trained(method, as_it_is(data), tmp_path, name="concat", params=params, state=state)
    relevance_figure(run, (data, ~train), NAMES, 3)
    assert (tmp_path / "figures" / "relevance.png").exists()
    rows = [axis.get_ylabel() for axis in saved[0].axes if axis.get_ylabel()]
    assert [row.split("(")[1] for row in rows] == ["zero)", "one)", "two)"]
    np.testing.assert_allclose(saved[0].axes[0].images[0].get_array(), picture[2, ..., 0])
