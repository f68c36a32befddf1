"""Fused steps on resident data are the streamed steps; settings that cannot be are refused."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from unirep_jax.data.resident import Pool
from unirep_jax.methods import MOVER
from unirep_jax.methods.method import RefreshingMethod
from unirep_jax.train.fit import fit, prepare

METHOD = MOVER(measure="cosine", weight_transport=0.0, dim=8)


def settings(**changes):
    train = {
        "lr": 1e-2,
        "schedule": "cosine",
        "warmup": 2,
        "weight_decay": 0.01,
        "clip": 1.0,
        "log_every": 4,
        "checkpoint_every": 8,
        "fused": 4,
    }
    flat = {"steps": 16, "batch_size": 16, "parallel": "shard_map", "train": train}
    config = ConfigDict(flat)
    config.update_from_flattened_dict(changes)
    return config


def pool(data, count=16):
    return Pool(np.flatnonzero(data.train), count, data.modalities)


@pytest.fixture(autouse=True)
def _promotion(standard_promotion):
    """Optax mixes Python floats with integer step counts."""


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_fused_steps_on_resident_data_end_where_streamed_ones_end(
    paired_features, tmp_path, parallel
):
    config = settings(parallel=parallel)
    resident = prepare(METHOD, paired_features, config, seed=1, pools=pool(paired_features))
    streamed = prepare(METHOD, paired_features, settings(parallel=parallel), seed=1)
    one = settings(parallel=parallel)
    one.train.fused = 1
    ours = fit(resident, config, tmp_path / "resident")
    theirs = fit(streamed, one, tmp_path / "streamed")
    assert resident.engine.devices == 8 and int(ours.step) == int(theirs.step) == 16
    chex.assert_trees_all_close(ours.params, theirs.params, rtol=1e-4, atol=1e-5)
    lines = (tmp_path / "resident" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_a_resumed_run_of_fused_steps_ends_bit_for_bit_as_the_unbroken_one(
    paired_features, tmp_path
):
    def run(folder, steps):
        config = settings(steps=16)
        fitting = prepare(METHOD, paired_features, config, seed=1, pools=pool(paired_features))
        config.steps = steps  # the schedule stays that of 16
        return fit(fitting, config, tmp_path / folder)

    whole = run("whole", 16)
    run("broken", 8)
    resumed = run("broken", 16)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.fused": 3}, "steps=16 is not a multiple of train.fused=3"),
        ({"train.fused": 0}, "train.fused=0"),
        ({"train.log_every": 6}, "train.log_every=6 is not a multiple"),
        ({"train.checkpoint_every": 10}, "train.checkpoint_every=10 is not a multiple"),
    ],
)
def test_numbers_of_steps_that_calls_do_not_divide_are_refused(paired_features, changes, message):
    with pytest.raises(ValueError, match=message):
        prepare(METHOD, paired_features, settings(**changes), seed=0, pools=pool(paired_features))


def test_a_pool_that_does_not_split_over_the_devices_is_refused(paired_features):
    pools = pool(paired_features, 12)
    with pytest.raises(ValueError, match="batch_size=12 does not split over 8"):
        prepare(METHOD, paired_features, settings(), seed=0, pools=pools)


@dataclasses.dataclass(frozen=True)
class Counting(RefreshingMethod):
    """One parameter that stays; the state counts what every refresh sees, and the steps since."""

    refresh_every = 8
    for_data = for_pools = lambda self, *_: self

    def init(self, key, shapes, statistics):
        zeros = {"seen": jnp.float32(0), "refreshed": jnp.int32(0), "since": jnp.int32(0)}
        return {"weight": jnp.float32(0)}, zeros

    def loss(self, params, state, batch, *, key, axis_name=None):
        state = state | {"since": state["since"] + 1}
        return params["weight"] * 0, (state, {"since": state["since"].astype(jnp.float32)})

    def refresh(self, params, state, whole):
        seen = whole.take(whole.rows)["features"]["camera"].sum()
        return {"seen": seen, "refreshed": state["refreshed"] + 1, "since": jnp.int32(0)}


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_a_method_looks_at_all_examples_as_often_as_it_says(paired_features, tmp_path, parallel):
    config = settings(parallel=parallel)
    fitting = prepare(Counting(), paired_features, config, seed=0, pools=pool(paired_features))
    state = fit(fitting, config, tmp_path).state
    train = paired_features.features["camera"][paired_features.train]
    np.testing.assert_allclose(state["seen"], train.sum(), rtol=1e-3)
    assert (int(state["refreshed"]), int(state["since"])) == (2, 8)


def test_looking_at_all_examples_between_two_calls_is_refused(paired_features):
    with pytest.raises(ValueError, match=r"method\.refresh_every=8 is not a multiple"):
        config = settings(steps=16, **{"train.fused": 16, "train.log_every": 16})
        config.train.checkpoint_every = 16
        prepare(Counting(), paired_features, config, seed=0, pools=pool(paired_features))
