"""Towers: every kind of input to one vector, each modality on its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.models.towers import Towers

# In the order of the alphabet, as jitted functions hand dictionaries on.
SHAPES = {"audio": (12, 5), "frame": (3, 2, 2, 4), "text": (7,)}
LINEAR = Towers(tuple(SHAPES.items()), dim=6)
DEEP = Towers(tuple(SHAPES.items()), dim=6, layers=1, width=8, dropout=0.5)


@partial(jax.jit, static_argnames=("module", "train"))
def apply(module, variables, inputs, seed=0, *, train=False):
    return module.apply(variables, inputs, train=train, rngs={"dropout": jax.random.key(seed)})


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return {m: jnp.asarray(rng.normal(size=s), jnp.float32) for m, s in SHAPES.items()}


@pytest.fixture(scope="module")
def variables(inputs):
    def init(module):
        return jax.jit(lambda key, x: module.init(key, x, train=False))(jax.random.key(0), inputs)

    return {LINEAR: init(LINEAR), DEEP: init(DEEP)}


def test_without_layers_a_tower_is_a_linear_map_of_all_numbers(inputs, variables):
    params = variables[LINEAR]["params"]
    assert params.keys() == {f"projections_{m}" for m in SHAPES}
    found = apply(LINEAR, variables[LINEAR], inputs, train=True)
    for row, (m, x) in zip(found, inputs.items(), strict=True):
        kernel = params[f"projections_{m}"]
        assert kernel.keys() == {"kernel"}, "no bias"
        expected = np.asarray(x, float).reshape(-1) @ np.asarray(kernel["kernel"], float)
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_with_layers_every_shape_gives_a_vector_and_sequences_keep_their_own_time(
    inputs, variables
):
    params = variables[DEEP]["params"]
    found = apply(DEEP, variables[DEEP], inputs)
    assert found.shape == (3, 6) and found.dtype == jnp.float32 and np.isfinite(found).all()
    for m, steps in (("audio", 12), ("frame", 3), ("text", 1)):
        assert params[f"projections_{m}"]["kernel"].shape == (8 * steps, 6)


def test_the_order_of_time_steps_matters(inputs, variables):
    found = apply(DEEP, variables[DEEP], inputs)
    turned = inputs | {"audio": inputs["audio"][::-1], "frame": inputs["frame"][::-1]}
    change = jnp.abs(apply(DEEP, variables[DEEP], turned) - found).max(1)
    assert (change[:2] > 0.1).all() and change[2] == 0


@pytest.mark.parametrize(
    ("module", "chosen"), [(LINEAR, ("frame",)), (DEEP, ("audio",)), (DEEP, ("audio", "text"))]
)
def test_some_modalities_alone_get_the_vectors_that_they_have_among_all(
    module, chosen, inputs, variables
):
    """Also from towers that know no others."""
    found = apply(module, variables[module], inputs)
    expected = np.stack([found[list(SHAPES).index(m)] for m in chosen])
    few = module.clone(shapes=tuple((m, SHAPES[m]) for m in chosen))
    for towers in (module, few):
        some = apply(towers, variables[module], {m: inputs[m] for m in chosen})
        np.testing.assert_allclose(some, expected, rtol=1e-6, atol=1e-6)


def test_vectors_come_in_alphabetical_order_however_the_call_names_the_modalities(
    inputs, variables
):
    names = ("text", "audio", "frame")
    found = LINEAR.apply(variables[LINEAR], {m: inputs[m] for m in names}, train=False)
    ordered = apply(LINEAR, variables[LINEAR], inputs)
    np.testing.assert_allclose(found, ordered, rtol=1e-6, atol=1e-6)


def test_dropout_acts_in_training_only(inputs, variables):
    deep, still = variables[DEEP], apply(DEEP, variables[DEEP], inputs)
    np.testing.assert_array_equal(apply(DEEP, deep, inputs, 1), still)
    zero, again, one = (apply(DEEP, deep, inputs, seed, train=True) for seed in (0, 0, 1))
    np.testing.assert_array_equal(zero, again)
    assert (jnp.abs(zero - still).max(1) > 1e-2).all()
    assert (jnp.abs(zero - one).max(1) > 1e-2).all()
    without = apply(DEEP.clone(dropout=0.0), deep, inputs, train=True)
    np.testing.assert_allclose(without, still, rtol=1e-6, atol=1e-6)


def test_a_batch_is_every_example_on_its_own(inputs, variables):
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), inputs)
    one = lambda x: apply(DEEP, variables[DEEP], x)
    together = jax.jit(jax.vmap(one, out_axes=1))(batch)
    assert together.shape == (3, 3, 6)
    alone = [one(jax.tree.map(lambda x, i=i: x[i], batch)) for i in range(3)]
    np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=1e-5, atol=1e-5)


def test_every_parameter_of_a_named_modality_learns_and_no_other(inputs, variables):
    def length(params):
        return (DEEP.apply({"params": params}, {"audio": inputs["audio"]}, train=False) ** 2).sum()

    gradient = jax.jit(jax.grad(length))(variables[DEEP]["params"])
    for tower, tree in gradient.items():
        moved = [bool(jnp.abs(leaf).max() > 0) for leaf in jax.tree.leaves(tree)]
        assert all(moved) if tower.endswith("audio") else not any(moved), tower
