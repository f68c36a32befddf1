"""A network that begins at linear CCA is CCA before its first step, and is trained from there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import start

from unirep_jax.data import gather, standardization
from unirep_jax.methods import CCA, MICU, MOVER
from unirep_jax.methods.batch import standardize

TOWERS = MOVER(dim=16, layers=1, width=8, measure="cosine", weight_transport=0.0, linear_start=True)
CODEBOOK = MICU(dim=16, codes=8, layers=1, heads=2, pieces=4, permutations=4, linear_start=True)


def solved(feature_set):
    method = CCA(dim=16)
    return method, *method.solve(feature_set)


def at_start(method, feature_set):
    """The method for these data, and the parameters that training begins with."""
    method, _, state = start(method, feature_set)
    return method, method.start(feature_set)(state.params), state.state


def rows_of(feature_set, modality):
    return jnp.asarray(np.array(feature_set.features[modality][:32], np.float32))


@pytest.mark.parametrize("layers", [0, 1])
def test_towers_begin_as_cca(layers, paired_features):
    method = dataclasses.replace(TOWERS, layers=layers)
    method, params, state = at_start(method, paired_features)
    cca, *solution = solved(paired_features)
    for m in paired_features.modalities:
        x = rows_of(paired_features, m)
        expected = np.asarray(cca.embed(*solution, m, x).vector)
        found = np.asarray(method.embed(params, state, m, x).vector)
        np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=1e-4)
        np.testing.assert_allclose(found[:, expected.shape[1] :], 0, atol=1e-4)


def test_sequences_before_the_codebook_begin_as_cca(paired_features):
    method, params, _ = at_start(CODEBOOK, paired_features)
    cca, *solution = solved(paired_features)
    statistics = standardization(paired_features)
    for m in paired_features.modalities:
        x = rows_of(paired_features, m)
        expected = np.asarray(cca.embed(*solution, m, x).vector) * 4  # √16
        network = method.network(((m, x.shape[1:]),))
        inputs = standardize({m: x}, statistics)
        encode = lambda one, network=network: network.apply(
            {"params": params["network"]}, one, train=False, method="encode"
        )
        sequence = np.asarray(jax.vmap(encode)(inputs))[:, 0]
        assert sequence.shape == (len(x), method.time, 16)
        for step in range(method.time):
            found = sequence[:, step, : expected.shape[1]]
            np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("method", [TOWERS, CODEBOOK], ids=["towers", "codebook"])
def test_training_moves_the_path_and_what_corrects_it(method, paired_features):
    method, params, state = at_start(method, paired_features)
    batch = gather(paired_features, np.flatnonzero(paired_features.train)[:16])
    loss = lambda p: method.loss(p, state, batch, key=jax.random.key(0))[0]
    gradient = jax.jit(jax.grad(loss))(params)
    moved = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if np.abs(leaf).max() > 0
    }
    m = paired_features.modalities[0]
    assert any(f"linears_{m}" in name and "kernel" in name for name in moved)
    assert any(f"projections_{m}" in name or f"gate_{m}" in name for name in moved)


def test_without_it_nothing_is_replaced(paired_features):
    method = dataclasses.replace(TOWERS, linear_start=False)
    method, _, state = start(method, paired_features)
    assert method.start(paired_features)(state.params) is state.params


def test_maps_are_too_large_for_a_linear_path():
    with pytest.raises(ValueError, match=r"linear_start: video has \[10, 16, 16, 512\] features"):
        TOWERS.for_data({"video": (10, 16, 16, 512), "audio": (4, 3)}, classes=2)
