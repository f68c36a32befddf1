"""Retrieval by mean codes on a set that is for evaluation alone."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.data import FeatureSet
from unirep_jax.evaluation.code_retrieval import code_retrieval, mean_codes
from unirep_jax.evaluation.probe import Representation

CLIPS, TIME, CODES = 12, 5, 40


def case(captions=1, seed=0):
    """Every clip has codes of its own; its captions have the same in another order."""
    rng = np.random.default_rng(seed)
    audio = np.stack([rng.choice(CODES, TIME, replace=False) for _ in range(CLIPS)])
    audio = np.repeat(audio, captions, axis=0)
    text = rng.permuted(audio, axis=1)
    count = len(audio)
    features = {m: np.zeros((count, 1), np.float32) for m in ("audio", "text")}
    checked = FeatureSet.from_arrays(
        "clips", features, np.full(count, -1), np.arange(count) == 0,
        group=np.repeat(np.arange(CLIPS), captions), class_names=(),
    )  # fmt: skip
    data = dataclasses.replace(checked, train=np.zeros(count, bool))
    codebook = jnp.asarray(rng.normal(size=(CODES, 16)), jnp.float32)
    codes = {"audio": jnp.asarray(audio), "text": jnp.asarray(text)}
    return Representation(codebook, codes), data


def values(*arguments, **settings):
    return {
        (r["source"], r["target"], r["metric"]): (r["value"], r["num_examples"])
        for r in code_retrieval(*arguments, **settings)
        if r["selection"] == "cosine"
    }


def test_mean_codes_are_unit_means_and_zero_where_they_cancel():
    codebook = np.array([[3.0, 0.0], [0.0, 4.0], [0.0, -4.0]], np.float32)
    found = mean_codes(codebook, np.array([[0, 0], [0, 1], [1, 2]]))
    np.testing.assert_allclose(found, [[1, 0], [0.6, 0.8], [0, 0]], rtol=1e-6)


def test_the_order_of_codes_does_not_matter_and_all_is_found():
    found = values(*case())
    assert found["audio", "text", "recall_at_1"] == (1, CLIPS)
    assert found["text", "audio", "median_rank"] == (1, CLIPS)


def test_several_captions_of_a_clip_search_for_it_once():
    found = values(*case(captions=3), captions="text")
    assert found["text", "audio", "recall_at_1"] == (1, 3 * CLIPS)
    assert found["audio", "text", "recall_at_1"] == (1, CLIPS)


def test_codes_that_are_all_equal_find_as_chance_does():
    representation, data = case()
    same = {m: jnp.zeros_like(x) for m, x in representation.indices.items()}
    found = values(representation._replace(indices=same), data)
    assert found["text", "audio", "recall_at_1"][0] == pytest.approx(1 / CLIPS)
    assert found["text", "audio", "recall_at_10"][0] == pytest.approx(10 / CLIPS)


def test_training_examples_are_not_searched():
    representation, data = case()
    some = dataclasses.replace(data, train=np.arange(CLIPS) < 5)
    assert values(representation, some)["text", "audio", "recall_at_1"][1] == CLIPS - 5
