"""Perceptors see what they are given and nothing else, and are trained once."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from unirep_jax import perceptors
from unirep_jax.perceptors import perceive

SETTINGS = ConfigDict({
    "path": "", "steps": 40, "batch_size": 16, "parallel": "shard_map",
    "method": {"measure": "cosine", "weight_transport": 0.0, "dim": 8},
    "train": {"lr": 1e-2, "schedule": "cosine", "warmup": 2, "weight_decay": 0.0, "clip": 1.0,
              "log_every": 20, "checkpoint_every": 40, "fused": 20},
})  # fmt: skip


@pytest.fixture(autouse=True)
def _promotion(standard_promotion):
    """Optax mixes Python floats with integer step counts."""


def test_pairs_of_unseen_examples_find_each_other_and_are_unit(paired_features, tmp_path):
    rows = paired_features.train & (np.arange(len(paired_features.label)) < 48)
    found = perceive(paired_features, ("camera", "caption"), rows, settings=SETTINGS,
                     folder=tmp_path, seed=0)  # fmt: skip
    assert found.keys() == {"camera", "caption"}
    for vectors in found.values():
        assert vectors.shape == (len(rows), 8)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    scores = found["camera"][~rows] @ found["caption"][~rows].T
    ahead = (scores > np.diag(scores)[:, None]).mean(1)
    assert ahead.mean() < 0.25, "0.5 by chance"


def test_what_was_perceived_is_read_again_and_another_seed_or_part_is_not(
    paired_features, tmp_path, monkeypatch
):
    trained = []
    original = perceptors.fit
    monkeypatch.setattr(perceptors, "fit", lambda *given: trained.append(given) or original(*given))
    run = lambda rows, seed, settings=SETTINGS: perceive(
        paired_features, ("camera", "sensor"), rows, settings=settings, folder=tmp_path, seed=seed
    )
    first = run(paired_features.train, 0)
    elsewhere = SETTINGS.copy_and_resolve_references()
    elsewhere.path = "anywhere"
    again = run(paired_features.train, 0, elsewhere)
    assert len(trained) == 1
    np.testing.assert_array_equal(first["camera"], again["camera"])
    fewer = paired_features.train & (np.arange(len(paired_features.label)) % 2 == 0)
    assert not np.allclose(run(paired_features.train, 1)["camera"], first["camera"])
    assert not np.allclose(run(fewer, 0)["camera"], first["camera"])
    assert len(trained) == 3


def test_a_perceptor_depends_on_its_rows_and_modalities_alone(paired_features, tmp_path):
    """Noise in the other modality and in the other examples changes nothing that it says."""
    import dataclasses

    rng = np.random.default_rng(0)
    features = {m: x.copy() for m, x in paired_features.features.items()}
    features["caption"] += 1
    rows = paired_features.train
    for m in ("camera", "sensor"):
        features[m][~rows] = rng.normal(size=features[m][~rows].shape)
    disturbed = dataclasses.replace(paired_features, features=features)
    ours, theirs = (
        perceive(
            data, ("camera", "sensor"), rows, settings=SETTINGS, folder=tmp_path / name, seed=0
        )
        for data, name in ((paired_features, "a"), (disturbed, "b"))
    )
    for m in ours:
        np.testing.assert_array_equal(ours[m][rows], theirs[m][rows])
