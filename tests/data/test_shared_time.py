"""Which modalities share their time: measured on examples whose answer is known."""

import numpy as np
import pytest

from unirep_jax.data import FeatureSet
from unirep_jax.data.shared_time import SHARED_ABOVE, shared_time, timed_pairs


@pytest.fixture(scope="module")
def values():
    """A signal, the same at another rate and mixed, one that goes on its own, a vector, words."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((200, 12, 3)).cumsum(1)
    other = rng.standard_normal((200, 6, 5)).cumsum(1)
    slow = signal.reshape(200, 6, 2, 3).mean(2)
    maps = np.tanh(slow @ rng.standard_normal((3, 4)))[:, :, None, None] * np.ones((1, 1, 2, 2, 1))
    features = {
        "signal": signal,
        "maps": maps,
        "other": other,
        "vector": signal[:, 0],
        "words": rng.integers(1, 9, (200, 6)).astype(np.int32),
    }
    features = {m: x if m == "words" else x.astype(np.float32) for m, x in features.items()}
    label = np.arange(200) % 4
    return shared_time(FeatureSet.from_arrays("made", features, label, np.arange(200) < 150))


def test_what_runs_in_step_is_told_from_what_does_not(values):
    assert values["signal", "maps"] > 0.3, "also at another rate, through a nonlinear map"
    assert abs(values["signal", "other"]) < SHARED_ABOVE
    assert timed_pairs(values) == (("signal", "maps"),)
    assert len(values) == 10


def test_what_has_no_time_shares_none(values):
    for pair, value in values.items():
        if {"vector", "words"} & {*pair}:
            assert value == 0


def test_what_all_examples_do_at_a_step_is_no_evidence():
    rng = np.random.default_rng(1)
    course = np.linspace(0, 9, 8)[None, :, None] ** 2  # the same rise in both, in every example
    features = {
        m: (course + rng.standard_normal((300, 8, 4))).astype(np.float32) for m in ("a", "b")
    }
    found = shared_time(
        FeatureSet.from_arrays("made", features, np.zeros(300, int), np.arange(300) < 250)
    )
    assert abs(found["a", "b"]) < SHARED_ABOVE
