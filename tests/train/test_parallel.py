"""The engines: placement, refusals, and the two ways of mapping one step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.train.parallel import AXIS, make_engine


def step(state, batch):
    total = jax.lax.psum(jnp.sum(batch["x"]), AXIS)
    return {"sum": state["sum"] + total}, {"total": total}


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_step_sees_the_whole_batch_on_any_number_of_devices(parallel, count):
    engine = make_engine(step, parallel=parallel, devices=jax.devices()[:count])
    assert engine.devices == count and engine.must_block == (count > 1)
    state = engine.place_state({"sum": np.float32(0)})
    for _ in range(3):
        batch = engine.place_batch({"x": np.arange(8, dtype=np.float32)})
        state, metrics = jax.block_until_ready(engine.step(state, batch))
    assert float(metrics["total"]) == 28
    assert float(engine.fetch_state(state)["sum"]) == 84


def test_a_batch_that_does_not_split_is_refused():
    engine = make_engine(step, devices=jax.devices()[:3])
    with pytest.raises(ValueError, match="batch of 8 does not split over 3"):
        engine.place_batch({"x": np.zeros(8, np.float32)})


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="xmap"):
        make_engine(step, parallel="xmap")


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_state_that_was_placed_survives_donation(parallel, count):
    engine = make_engine(step, parallel=parallel, devices=jax.devices()[:count])
    state = {"sum": jnp.float32(1)}
    batch = engine.place_batch({"x": np.ones(8, np.float32)})
    jax.block_until_ready(engine.step(engine.place_state(state), batch))
    assert float(state["sum"]) == 1


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
@pytest.mark.parametrize("resident", [None, {"offset": np.float32(3)}])
def test_a_compiled_step_is_called_without_being_compiled_again(parallel, resident):
    traced = []

    def counted(state, batch, *kept):
        traced.append(kept)
        state, metrics = step(state, batch)
        return {"sum": state["sum"] + sum(one["offset"] for one in kept)}, metrics

    devices = jax.devices()[:2]
    engine = make_engine(counted, parallel=parallel, devices=devices, resident=resident)
    state = engine.place_state({"sum": np.float32(0)})
    batch = engine.place_batch({"x": np.ones(8, np.float32)})
    program, call = engine.compiled(state, batch)
    before = len(traced)
    for _ in range(2):
        state, _ = jax.block_until_ready(call(state, batch))
    assert len(traced) == before and program.memory_analysis() is not None
    assert float(engine.fetch_state(state)["sum"]) == (16 if resident is None else 22)
