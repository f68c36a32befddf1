"""Frozen encoders see what they are given and nothing else, and are trained once."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from unirep_jax import pretrain as pretraining
from unirep_jax.pretrain import pretrain

SETTINGS = ConfigDict(
    {
        "path": "",
        "steps": 40,
        "batch_size": 16,
        "parallel": "shard_map",
        "method": {"measure": "cosine", "weight_transport": 0.0, "dim": 8},
        "train": {
            "lr": 1e-2,
            "schedule": "cosine",
            "warmup": 2,
            "weight_decay": 0.0,
            "clip": 1.0,
            "log_every": 20,
            "checkpoint_every": 40,
            "fused": 20,
        },
    }
)


@pytest.fixture(autouse=True)
def _promotion(standard_promotion):
    """Optax mixes Python floats with integer step counts."""


def vectors_of(model, data):
    return {m: model.embed(m, data.features[m]) for m in model.modalities}


def test_pairs_of_unseen_examples_find_each_other_and_are_unit(paired_features, tmp_path):
    rows = paired_features.train & (np.arange(len(paired_features.label)) < 48)
    model = pretrain(
        paired_features, ("camera", "caption"), rows, settings=SETTINGS, folder=tmp_path, seed=0
    )
    assert model.modalities == ("camera", "caption")
    found = vectors_of(model, paired_features)
    for vectors in found.values():
        assert vectors.shape == (len(rows), 8)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    scores = found["camera"][~rows] @ found["caption"][~rows].T
    ahead = (scores > np.diag(scores)[:, None]).mean(1)
    assert ahead.mean() < 0.25, "0.5 by chance"


def test_what_was_pretrained_is_read_again_and_another_seed_or_part_is_not(
    paired_features, tmp_path, monkeypatch
):
    trained = []
    original = pretraining.fit
    monkeypatch.setattr(
        pretraining, "fit", lambda *given: trained.append(given) or original(*given)
    )

    def run(rows, seed, settings=SETTINGS):
        model = pretrain(
            paired_features,
            ("camera", "sensor"),
            rows,
            settings=settings,
            folder=tmp_path,
            seed=seed,
        )
        return vectors_of(model, paired_features)

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


def test_an_encoder_depends_on_its_rows_and_modalities_alone(paired_features, tmp_path):
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
        vectors_of(
            pretrain(
                data, ("camera", "sensor"), rows, settings=SETTINGS, folder=tmp_path / name, seed=0
            ),
            data,
        )
        for data, name in ((paired_features, "a"), (disturbed, "b"))
    )
    for m in ours:
        np.testing.assert_array_equal(ours[m][rows], theirs[m][rows])
