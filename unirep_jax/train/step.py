"""The one step that takes a gradient, written for one device with a named axis."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from unirep_jax.data.resident import is_pool, take, wholes


class TrainState(NamedTuple):
    """Everything that a step changes, and all that a checkpoint holds."""

    step: Int[Array, ""]
    seed: Int[Array, ""]  # data, not a constant: runs of other seeds reuse the compiled step
    params: dict
    opt_state: optax.OptState
    state: dict  # the method's own: codebook, feature statistics


def init_state(method, optimizer, *, seed: int, shapes: dict, statistics: dict) -> TrainState:
    """The state before step 0, a function of the seed."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    params, state = method.init(key, shapes, statistics)
    return TrainState(jnp.int32(0), jnp.uint32(seed), params, optimizer.init(params), state)


def train_step(
    train_state: TrainState, batch: dict, *, method, optimizer, axis_name: str | None
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One update; `batch` is this device's share. The result is the same on every device.

    Randomness is folded from (seed, step), so a resumed run draws what the unbroken one would.

    Returns:
      The new state, and scalars to log: the loss, its terms and the gradient's norm.
    """
    # Half-precision features come as they lie on disk; they are widened here, on the device.
    batch = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float16 else x, batch)
    key = jax.random.fold_in(jax.random.key(train_state.seed), train_state.step + 1)
    loss = jax.value_and_grad(method.loss, has_aux=True)
    (value, (state, terms)), gradient = loss(
        train_state.params, train_state.state, batch, key=key, axis_name=axis_name
    )
    if axis_name is not None:
        value, terms, gradient = jax.lax.pmean((value, terms, gradient), axis_name)
    updates, opt_state = optimizer.update(gradient, train_state.opt_state, train_state.params)
    params = optax.apply_updates(train_state.params, updates)
    metrics = {"loss": value, **terms, "gradient_norm": optax.global_norm(gradient)}
    step = train_state.step + 1
    return TrainState(step, train_state.seed, params, opt_state, state), metrics


def fused_step(
    train_state: TrainState,
    indices: Any,
    resident: dict,
    *,
    step: Callable,
    pools: Any,
    method: Any = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """As many updates in one program as `indices` has columns; the means of their metrics.

    Args:
      indices: [batch, steps] example numbers for each pool, of this device's share.
      resident: of `resident_arrays`.
      step: (train_state, batch) -> (train_state, metrics).
      pools: tree of `Pool`, in whose form the batches are.
      method: whose `refresh(params, state, wholes)` gives its state from all examples of the pools,
        before each step that is a multiple of its `refresh_every`; None for one without.
    """
    if method is not None:
        train_state = _refresh(train_state, resident, pools, method)

    def one(state, rows):
        batch = jax.tree.map(lambda p, r: take(resident, r, p), pools, rows, is_leaf=is_pool)
        return step(state, batch)

    columns = jax.tree.map(lambda i: jnp.swapaxes(i, 0, 1), indices)
    train_state, metrics = jax.lax.scan(one, train_state, columns)
    return train_state, jax.tree.map(jnp.mean, metrics)


def _refresh(train_state: TrainState, resident: dict, pools: Any, method: Any) -> TrainState:
    """On every device all of it: the same examples in the same order give the same state."""

    def refreshed(params, state):
        return method.refresh(params, state, wholes(resident, pools))

    due = train_state.step % method.refresh_every == 0
    state = jax.lax.cond(
        due, refreshed, lambda _, state: state, train_state.params, train_state.state
    )
    return train_state._replace(state=state)
