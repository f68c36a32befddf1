"""Channel statistics against the formula on the whole set."""

import numpy as np
import pytest

from unirep_jax.data import (
    FeatureSet,
    load_features,
    mapped,
    standardization,
)


def reference_standardization(array, rows):
    values = array[rows].astype(np.float64).reshape(-1, array.shape[-1])
    deviation = values.std(axis=0)
    return values.mean(axis=0), deviation


@pytest.mark.parametrize("chunk_bytes", [1, 500, 1 << 24])
def test_standardization_is_the_mean_and_deviation_over_present_training_rows(
    write, monkeypatch, chunk_bytes, arrays
):
    monkeypatch.setattr(mapped, "_CHUNK_BYTES", chunk_bytes)
    content = arrays
    content["modality/audio"][1] = np.nan  # absent
    loaded = load_features(write(content))
    statistics = standardization(loaded)
    assert statistics.keys() == loaded.features.keys()
    for modality, array in loaded.features.items():
        rows = [i for i in range(6) if loaded.train[i] and loaded.present[modality][i]]
        mean, deviation = reference_standardization(array, rows)
        np.testing.assert_allclose(statistics[modality][0], mean, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(statistics[modality][1], deviation, rtol=1e-6)
        assert statistics[modality][0].dtype == statistics[modality][1].dtype == np.float32


def test_standardization_does_not_cancel_on_a_large_mean_and_keeps_constant_channels(rng):
    values = rng.standard_normal((50, 3)) * 1e-2 + 1e3
    values[:, 1] = 0.1  # not a binary fraction: its computed deviation is not quite 0
    values[:, 2] = 0
    train = np.arange(50) < 49
    both = {"video": values, "audio": 1e-8 * rng.standard_normal((50, 1))}
    statistics = standardization(FeatureSet.from_arrays("x", both, np.full(50, -1), train))
    np.testing.assert_allclose(statistics["video"][1], [values[:49, 0].std(), 1, 1], rtol=1e-6)
    np.testing.assert_allclose(statistics["audio"][1], both["audio"][:49].std(axis=0), rtol=1e-6)


def test_standardization_of_a_modality_that_training_lacks_is_neutral():
    both = {"video": np.ones((4, 3)), "audio": np.full((4, 3), 5.0)}
    train = np.array([True, True, False, False])
    lacking = FeatureSet.from_arrays("x", both, np.full(4, -1), train, present={"audio": ~train})
    mean, deviation = standardization(lacking)["audio"]
    np.testing.assert_array_equal(mean, np.zeros(3))
    np.testing.assert_array_equal(deviation, np.ones(3))


def test_standardization_reads_evenly_spaced_examples_of_a_large_set(monkeypatch, rng):
    monkeypatch.setattr("unirep_jax.data.channel_statistics._STATISTICS_EXAMPLES", 5)
    values = rng.standard_normal((18, 2))
    train = np.arange(18) < 17
    many = FeatureSet.from_arrays("x", {"a": values, "b": values}, np.full(18, -1), train)
    mean, deviation = standardization(many)["a"]
    expected = reference_standardization(values, [0, 4, 8, 12, 16])
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5)
    np.testing.assert_allclose(deviation, expected[1], rtol=1e-5)
