"""The generated set of regimes: both modalities are needed, and how well one could do."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from unirep_jax.data import regimes


@pytest.fixture(scope="module")
def data():
    return regimes.load()


def test_it_is_always_the_same_with_every_class_as_often(data):
    again = regimes.load()
    for m, x in data.features.items():
        np.testing.assert_array_equal(x, again.features[m])
        assert x.dtype == np.float32
    assert np.bincount(data.label[data.train]).tolist() == [160] * 10
    assert np.bincount(data.label[~data.train]).tolist() == [100] * 10


def test_a_class_has_another_prototype_in_every_regime():
    _, _, place = regimes.prototypes()
    for row in place:
        assert sorted(row) == list(range(regimes.CLASSES))
    for c in range(regimes.CLASSES):
        assert len(set(place[:, c])) == regimes.REGIMES


def test_no_linear_classifier_of_both_modalities_comes_near_what_is_possible(data):
    both = np.hstack([data.features["signal"], data.features["regime"]])
    linear = LogisticRegression(max_iter=500).fit(both[data.train], data.label[data.train])
    possible, share = regimes.known_share(data, tuple(range(10)))
    best = np.mean(possible.argmax(1)[~data.train] == data.label[~data.train])
    assert linear.score(both[~data.train], data.label[~data.train]) < 0.55 and best > 0.85
    np.testing.assert_allclose(share, 1)


def test_the_share_of_known_classes_tells_them_from_unknown_ones(data):
    known = (0, 3, 4, 7, 9)
    _, share = regimes.known_share(data, known)
    assert roc_auc_score(np.isin(data.label, known), share) > 0.9
