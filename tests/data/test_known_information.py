"""Gaussian classes of known information: closed forms, limits, and what the features keep."""

import numpy as np
import pytest
from scipy.stats import norm

from unirep_jax.data.known_information import (
    COORDINATES,
    LEVELS,
    MODALITIES,
    known,
    load,
    quantities,
)


def test_of_two_classes_accuracy_is_that_of_the_normal_distribution():
    """The best classifier of two Gaussians errs with Φ(−distance / 2)."""
    found, means = quantities(2.0, classes=2), known(2.0, classes=2).means
    for m in MODALITIES:
        distance = np.linalg.norm((means[0] - means[1])[list(COORDINATES[m])])
        assert found.accuracy[m] == pytest.approx(norm.cdf(distance / 2), abs=0.01)


def test_classes_of_equal_means_are_told_by_nothing_and_distant_ones_by_everything():
    nothing, everything = quantities(0.0), quantities(50.0)
    assert nothing.information["unknown"] == pytest.approx(0, abs=1e-9)
    assert nothing.overlap == pytest.approx(0, abs=1e-9)
    assert everything.information["unknown"] == pytest.approx(np.log2(10), abs=1e-3)
    inside = everything.information["first+second"]
    assert everything.overlap == pytest.approx(inside, abs=1e-3), "what they tell, it tells"


def test_more_modalities_tell_more_and_disagreement_is_of_the_in_modal_ones():
    low, high = (quantities(s) for s in (3.0, 5.5))
    assert low.information["unknown"] < high.information["unknown"]
    assert low.disagreement > high.disagreement > 0
    for found in (low, high):
        assert found.information["first"] < found.information["first+second"]
        assert found.information["first+second"] < found.information["unknown+first+second"]
        assert 0 < found.overlap < found.information["unknown"]


def test_the_posterior_reads_only_what_the_modalities_show(rng):
    source = known(3.0)
    latent = source.draw(np.arange(10), rng)
    expected = source.log_posterior(latent, ("first",))
    hidden = np.array(latent)
    hidden[:, [4, 5, 8, 9, 10]] = np.nan
    np.testing.assert_array_equal(source.log_posterior(hidden, ("first",)), expected)
    assert np.isnan(source.log_posterior(hidden, ("first", "second"))).all()


def test_the_map_to_features_is_one_to_one(rng):
    """An inverse gives back what was shown, so no information is lost."""
    source = known(3.0)
    latent = source.draw(np.arange(10), rng)
    features = source.features("unknown", latent)
    back = source.latent("unknown", features)
    shown = list(COORDINATES["unknown"])
    np.testing.assert_allclose(back[:, shown], latent[:, shown], atol=1e-9)
    assert np.isnan(back[:, 6]).all()
    assert np.abs(features - latent[:, shown]).max() > 0.1


def test_parts_are_balanced_and_the_best_classifier_is_as_good_on_them_as_computed():
    data = load("known_information_middle")
    assert (data.train.sum(), (~data.train).sum()) == (1000, 2000)
    assert data.modalities == MODALITIES
    assert (np.bincount(data.label[data.train]) == 100).all()
    again = load("known_information_middle")
    np.testing.assert_array_equal(data.features["first"], again.features["first"])
    source, separation = known(LEVELS[data.name]), LEVELS[data.name]
    latent = source.latent("unknown", data.features["unknown"].astype(float))
    chosen = source.log_posterior(latent, ("unknown",)).argmax(axis=1)
    accuracy = quantities(separation).accuracy["unknown"]
    assert np.mean(chosen == data.label) == pytest.approx(accuracy, abs=0.02)
