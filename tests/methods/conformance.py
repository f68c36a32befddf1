"""What the tests of all methods share: a state to start from, and one device against several."""

from functools import partial

import chex
import jax
import numpy as np
import optax

from unirep_jax.data import standardization
from unirep_jax.train.parallel import AXIS, make_engine
from unirep_jax.train.step import init_state


def start(method, feature_set, seed=0):
    """The method for these data, an optimiser, and the state before the first step."""
    shapes = {m: x.shape[1:] for m, x in feature_set.features.items()}
    method = method.for_data(shapes, feature_set.num_classes)
    optimizer = optax.adam(3e-3)
    state = init_state(
        method, optimizer, seed=seed, shapes=shapes, statistics=standardization(feature_set)
    )
    return method, optimizer, state


def assert_devices_agree(method, state, batch, *, parallel, counts, metrics_rtol, state_rtol):
    """Losses, terms, gradients and new state on each number of devices are those of one."""

    def gradient_step(state, batch, axis_name=AXIS):
        (value, (new, terms)), gradient = jax.value_and_grad(method.loss, has_aux=True)(
            state["params"], state["state"], batch, key=jax.random.key(7), axis_name=axis_name
        )
        if axis_name:
            value, terms, gradient = jax.lax.pmean((value, terms, gradient), axis_name)
        return {"params": gradient, "state": new}, {"loss": value, **terms}

    before = {"params": state.params, "state": state.state}
    expected, expected_metrics = jax.jit(partial(gradient_step, axis_name=None))(before, batch)
    expected = jax.tree.map(np.asarray, expected)
    for count in counts:
        engine = make_engine(gradient_step, parallel=parallel, devices=jax.devices()[:count])
        result, metrics = jax.block_until_ready(
            engine.step(engine.place_state(before), engine.place_batch(batch))
        )
        chex.assert_trees_all_close(metrics, expected_metrics, rtol=metrics_rtol, atol=1e-5)
        result = jax.tree.map(np.asarray, engine.fetch_state(result))
        chex.assert_trees_all_close(result, expected, rtol=state_rtol, atol=1e-5)
