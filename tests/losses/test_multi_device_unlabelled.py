"""Kernels over unlabelled examples and anchors give the same on 1, 2, 4 and 8 devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_multi_device import DEVICES, run

from unirep_jax import losses

BATCH, DIM, CLASSES = 16, 5, 3


def everything(params, batch, *, axis_name):
    """Values of the kernels, and gradients as training takes them: the mean over the devices."""
    kernels = {"marginal": marginal, "fairness": fair}
    result = {}
    for name, kernel in kernels.items():
        value, gradient = jax.value_and_grad(kernel)(params, batch, axis_name)
        if axis_name is not None:
            gradient = jax.lax.pmean(gradient, axis_name)
        result[name] = (value, gradient)
    step = jnp.int32(2)
    queue = losses.enqueue(params["queue"], batch["x"], step, axis_name=axis_name)
    return result | {"thresholds": thresholds(params, batch, axis_name), "queue": queue}


def marginal(params, batch, axis_name):
    return losses.marginal_divergence(
        batch["x"] @ params["kernel"],
        batch["y"] @ params["kernel"],
        where=batch["where"],
        anchor_where=batch["anchors"],
        axis_name=axis_name,
    )


def thresholds(params, batch, axis_name):
    return losses.update_thresholds(
        losses.AdaptiveThresholds.initial(CLASSES),
        batch["y"] @ params["kernel"],
        momentum=0.9,
        where=batch["where"],
        axis_name=axis_name,
    )


def fair(params, batch, axis_name):
    return losses.fairness(
        thresholds(params, batch, axis_name),
        batch["x"] @ params["kernel"],
        where=batch["where"],
        axis_name=axis_name,
    )


on_one_device = jax.jit(partial(everything, axis_name=None))


def inputs(presence):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = {"kernel": 3 * draw(DIM, CLASSES), "queue": draw(40, DIM)}
    row = jnp.arange(BATCH)
    where, anchors = {
        "everything present": (row >= 0, row >= 0),
        "uneven": (row < 9, row % 3 == 0),  # of eight devices some hold none
        "nothing present": (row < 0, row < 0),
    }[presence]
    return params, {
        "x": draw(BATCH, DIM),
        "y": draw(BATCH, DIM),
        "where": where,
        "anchors": anchors,
    }


@DEVICES
@pytest.mark.parametrize("presence", ["everything present", "uneven", "nothing present"])
def test_values_gradients_and_states_are_those_of_one_device(engine, devices, presence):
    expected = on_one_device(*inputs(presence))
    several = run(engine, devices, everything, *inputs(presence))
    for ours, theirs in zip(jax.tree.leaves(several), jax.tree.leaves(expected), strict=True):
        expected_leaf = np.broadcast_to(theirs, ours.shape)
        np.testing.assert_allclose(ours, expected_leaf, rtol=1e-4, atol=1e-6)
    for name in ("marginal", "fairness"):
        size = np.abs(expected[name][1]["kernel"]).max()
        assert (size > 1e-3) == (presence != "nothing present"), name
