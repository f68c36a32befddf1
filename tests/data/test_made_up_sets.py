"""Made-up data are what they say: views of one latent, spaces with the gap that was asked for."""

import numpy as np

from unirep_jax.data import gapped_spaces, latent_views


def test_views_of_a_latent_are_linear_with_the_noise_that_was_asked_for():
    data = latent_views.load()
    assert data.modalities == ("text", "audio", "video") and data.train.sum() == 1024
    x, y = (np.asarray(data.features[m], np.float64) for m in ("text", "audio"))
    values = np.linalg.eigvalsh(np.cov(x.T))
    rest = values[: -latent_views.LATENT]  # what no latent explains
    np.testing.assert_allclose(rest.mean(), latent_views.NOISE**2, rtol=0.1)
    assert values[-latent_views.LATENT] > 1.3 * rest[-1]
    fitted = np.linalg.lstsq(x[data.train], y[data.train], rcond=None)[0]
    left = y[~data.train] - x[~data.train] @ fitted
    assert left.var() < 0.7 * y.var(), "one view tells of the other"
    np.testing.assert_array_equal(latent_views.load().features["video"], data.features["video"])
    assert (latent_views.load(1).features["video"] != data.features["video"]).any()


def centroid_distance(data, pair):
    return np.linalg.norm(np.subtract(*(data.features[m][~data.train].mean(0) for m in pair)))


def test_the_gap_between_modalities_is_the_one_that_was_asked_for():
    pairs = (("text_1", "image_1"), ("text_2", "audio_2"))
    found = {
        gap: [centroid_distance(gapped_spaces.load(gap), p) for p in pairs] for gap in (0.0, 2.0)
    }
    assert max(found[0.0]) < 0.05
    # Unit vectors of a signal and of ±1 across it: 2 / √2.
    np.testing.assert_allclose(found[2.0], 2**0.5, rtol=0.05)


def test_a_space_with_a_gap_still_finds_its_pairs_and_the_other_space_does_not():
    data = gapped_spaces.load(1.0)
    test = {m: x[~data.train].astype(np.float64) for m, x in data.features.items()}
    recall = lambda a, b: np.mean((test[a] @ test[b].T).argmax(1) == np.arange(len(test[a])))
    assert recall("text_1", "image_1") > 0.7 and recall("text_2", "audio_2") > 0.7
    assert recall("image_1", "audio_2") < 0.05
    for m, x in test.items():
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5, err_msg=m)
    assert np.linalg.norm(data.features["image_1"][data.train], axis=1).mean() < 0.99, "means"
