"""One batch over 1, 2, 4 and 8 devices gives the values, gradients and codebooks of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from unirep_jax import losses

AXIS = "device"
BATCH, MODALITY, TIME, DIM, CODE = 16, 3, 2, 6, 5
# Each engine every day, on the most devices and on some; every combination in the slow suite: each
# is a program of every kernel.
EVERY_DAY = [("shard_map", 8), ("pmap", 4)]
DEVICES = pytest.mark.parametrize(
    ("engine", "devices"),
    [
        pytest.param(
            engine, devices, marks=[] if (engine, devices) in EVERY_DAY else pytest.mark.slow
        )
        for engine in ("shard_map", "pmap")
        for devices in (1, 2, 4, 8)
    ],
)


@functools.cache  # of (engine, devices, function): one compilation for every presence
def mapped(engine, devices, function):
    function = functools.partial(function, axis_name=AXIS)
    if engine == "pmap":
        return jax.pmap(
            function, axis_name=AXIS, in_axes=(None, 0), devices=jax.devices()[:devices]
        )
    mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,), axis_types=(AxisType.Auto,))

    def stacked(replicated, part):
        part = jax.tree.map(lambda x: x[0], part)
        return jax.tree.map(lambda x: x[None], function(replicated, part))

    return jax.jit(
        jax.shard_map(
            stacked, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False
        )
    )


def run(engine, devices, function, replicated, batch):
    """function(replicated, its part of the batch) on every device; results stacked by device."""
    parts = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
    return jax.block_until_ready(mapped(engine, devices, function)(replicated, parts))


def info_nce(params, batch, axis_name, block_size=None):
    queries, keys = (batch["features"][:, i, 0] @ params["maps"][i] for i in range(2))
    where = batch["where"][:, 0]
    values = losses.info_nce(
        queries,
        keys,
        temperature=jnp.exp(params["log_temperature"]),
        where=where,
        block_size=block_size,
        axis_name=axis_name,
    )
    return losses.masked_mean(values, where, axis_name=axis_name), values


def fine_coarse(params, batch, axis_name, cosine):
    features = jnp.einsum("bmtd,mde->mbte", batch["features"], params["maps"])
    present = batch["where"].T
    result = losses.fine_coarse_info_nce(
        features,
        temperature=jnp.exp(params["log_temperature"]),
        mask=batch["mask"][None, :, :, None],
        where=present,
        cosine=cosine,
        axis_name=axis_name,
    )
    both = present[:, None] & present[None]
    loss = sum(losses.masked_mean(values, both, axis_name=axis_name) for values in result)
    return loss, jnp.moveaxis(jnp.stack(result), -1, 0)


def club(params, batch, axis_name):
    target, mean, log_variance = (batch["features"][:, i] @ params["maps"][i] for i in range(3))
    where = batch["where"].all(1)
    values = losses.club_upper_bound(
        target, mean, log_variance * params["log_temperature"], where=where, axis_name=axis_name
    )
    where = jnp.broadcast_to(where[:, None], values.shape)
    return losses.masked_mean(values, where, axis_name=axis_name), values


def predictive_coding(params, batch, axis_name):
    features = jnp.moveaxis(batch["features"], 0, 1)
    predictions = jnp.einsum("mbtd,mde->mbte", features, params["maps"])[:, :, :, None]
    values = losses.cross_predictive_coding(
        predictions,
        features,
        temperature=jnp.exp(params["log_temperature"]),
        where=batch["where"].T,
        axis_name=axis_name,
    )
    return pair_mean(values, batch, axis_name)


def code_matching(params, batch, axis_name):
    features = jnp.einsum("bmtd,mde->mbte", batch["features"], params["maps"])
    logs = losses.log_code_distribution(
        features, params["maps"][0], temperature=jnp.exp(params["log_temperature"])
    )
    values = losses.code_matching_loss(logs, where=batch["where"].T, axis_name=axis_name)
    return pair_mean(values, batch, axis_name)


def pair_mean(values, batch, axis_name):
    present = batch["where"].T
    loss = losses.masked_mean(values, present[:, None] & present[None], axis_name=axis_name)
    return loss, jnp.moveaxis(values, -1, 0)


KERNELS = {
    "club": club,
    "predictive coding": predictive_coding,
    "code matching": code_matching,
    "info_nce": info_nce,
    "info_nce in blocks": functools.partial(info_nce, block_size=3),
    "fine_coarse": functools.partial(fine_coarse, cosine=False),
    "fine_coarse of cosines": functools.partial(fine_coarse, cosine=True),
}


def gradients(params, batch, *, axis_name):
    """The training idiom for each kernel: loss and gradient of a device, averaged over all."""
    result = {}
    for name, kernel in KERNELS.items():
        (loss, values), gradient = jax.value_and_grad(kernel, has_aux=True)(
            params, batch, axis_name
        )
        if axis_name is not None:
            loss, gradient = jax.lax.pmean((loss, gradient), axis_name)
        result[name] = {"loss": loss, "gradient": gradient, "values": values}
    return result


def inputs(presence):
    rng = np.random.default_rng(0)
    where = {
        "everything present": np.ones((BATCH, MODALITY), bool),
        # Most devices hold fewer rows than the first; of eight, some hold none.
        "uneven": np.arange(BATCH)[:, None] < np.array([9, 7, 5])[None],
        "nothing present": np.zeros((BATCH, MODALITY), bool),
    }[presence]
    features = rng.normal(size=(BATCH, MODALITY, TIME, DIM))
    features[~where] = 1e3  # must not matter
    params = {
        "maps": jnp.asarray(rng.normal(size=(MODALITY, DIM, DIM)) / DIM**0.5, jnp.float32),
        "log_temperature": jnp.asarray(-0.5, jnp.float32),
    }
    batch = {
        "features": jnp.asarray(features, jnp.float32),
        "where": jnp.asarray(where),
        "mask": jnp.asarray(rng.random((BATCH, TIME)) > 0.3),
    }
    return params, batch


on_one_device = jax.jit(functools.partial(gradients, axis_name=None))


@DEVICES
@pytest.mark.parametrize("presence", ["everything present", "uneven"])
def test_values_and_gradients_are_those_of_one_device(engine, devices, presence):
    several = run(engine, devices, gradients, *inputs(presence))
    for name, expected in on_one_device(*inputs(presence)).items():
        ours = several[name]
        values = ours["values"].reshape(expected["values"].shape)
        np.testing.assert_allclose(values, expected["values"], rtol=1e-5, atol=1e-5, err_msg=name)
        for leaf in ("loss", "gradient"):
            jax.tree.map(
                lambda a, b, name=name: np.testing.assert_allclose(
                    a, np.broadcast_to(b, a.shape), rtol=1e-5, atol=1e-5, err_msg=name
                ),
                ours[leaf],
                expected[leaf],
            )
        assert np.abs(expected["gradient"]["maps"]).max() > 1e-2  # so that 1e-5 means something


@pytest.mark.parametrize(("engine", "devices"), [("shard_map", 8), ("pmap", 4)])
def test_nothing_present_on_any_device_gives_zero_loss_and_zero_gradient(engine, devices):
    several = run(engine, devices, gradients, *inputs("nothing present"))
    for leaf in jax.tree.leaves(several):
        np.testing.assert_array_equal(leaf, 0)


def codebook_after(state, batch, *, axis_name):
    """An update, then a restart: what training does to the codebook in a step."""
    z = jnp.moveaxis(batch["features"], 0, 1)
    present = batch["where"].T
    tokens = z.reshape(MODALITY, -1, DIM)
    updated = losses.ema_codebook_update(
        state,
        tokens,
        losses.nearest_code(tokens, state.codebook),
        decay=0.9,
        where=jnp.repeat(present, TIME, axis=1),
        axis_name=axis_name,
    )
    restarted = losses.restart_dead_codes(
        updated,
        z,
        key=jax.random.key(3),
        patience=5,
        where=present,
        axis_name=axis_name,
    )
    return updated, restarted


codebook_on_one_device = jax.jit(functools.partial(codebook_after, axis_name=None))


def dying_codebook():
    rng = np.random.default_rng(1)
    codebook = rng.normal(size=(2 * CODE, DIM))
    codebook[CODE:] += 50  # too far to be chosen
    codebook = jnp.asarray(codebook, jnp.float32)
    return losses.CodebookState(codebook, jnp.ones(2 * CODE), codebook, jnp.full(2 * CODE, 9))


@DEVICES
@pytest.mark.parametrize("presence", ["everything present", "uneven"])
def test_the_codebook_is_that_of_one_device_after_update_and_restart(engine, devices, presence):
    _, batch = inputs(presence)
    state = dying_codebook()
    expected = codebook_on_one_device(state, batch)
    several = run(engine, devices, codebook_after, state, batch)
    for ours, theirs in zip(jax.tree.leaves(several), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, np.broadcast_to(theirs, ours.shape), rtol=1e-5, atol=1e-5)
    updated, restarted = expected
    assert (restarted.age == 0).sum() > (updated.age == 0).sum()  # something did restart


# --- the mean that training reduces by, on one device -----------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_masked_mean_counts_further_than_half_precision_can(dtype):
    where = jnp.arange(70_001) % 7 > 0
    mean = losses.masked_mean(jnp.ones(70_001, dtype), where)
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, 1, rtol=1e-6)


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    values = jnp.array([jnp.nan, 2.0])
    value, gradient = jax.value_and_grad(losses.masked_mean)(values, jnp.zeros(2, bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, [0, 0])


def test_masked_mean_refuses_a_mask_of_another_shape():
    with pytest.raises(Exception, match="where"):
        losses.masked_mean(jnp.ones(8), jnp.ones(1, bool))
