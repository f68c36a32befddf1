"""Kernels over all pairs or tuples of a batch give the same on 1, 2, 4 and 8 devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_multi_device import DEVICES, run

from unirep_jax.losses import masked_mean
from unirep_jax.losses.symmetric import symmetric_info_nce
from unirep_jax.losses.transport import sinkhorn_plan
from unirep_jax.losses.transport_volume import top_groups, transport_volume_loss
from unirep_jax.losses.volume import volume_info_nce

BATCH, DIM = 16, 6


def symmetric(vectors, temperature, where, axis_name, block_size):
    return symmetric_info_nce(
        *vectors[:2],
        temperature=temperature,
        where=where,
        block_size=block_size,
        axis_name=axis_name,
    )


def volume(vectors, temperature, where, axis_name, block_size):
    both = volume_info_nce(
        *vectors,
        temperature=temperature,
        label_smoothing=0.1,
        where=where,
        block_size=block_size,
        axis_name=axis_name,
    )
    return both.anchor_to_group + 3 * both.group_to_anchor


def transport(vectors, temperature, where, axis_name, match):
    """The plans are solved for the whole batch on every device; the loss is of its own anchors."""
    whole, present = vectors, where
    if axis_name is not None:
        whole = jax.lax.all_gather(vectors, axis_name, axis=1, tiled=True)
        present = jax.lax.all_gather(where, axis_name, tiled=True)
    plans = sinkhorn_plan(
        jnp.stack([whole[0]] * 2),
        whole[1:],
        epsilon=temperature,
        marginals=(present[None], present[None]),
        gradient="implicit",
        threshold=1e-5,
    )
    vectors = jnp.where(where[None, :, None], vectors, 0)
    return transport_volume_loss(vectors, match(plans.plan), axis_name=axis_name)


KERNELS = {
    "symmetric in blocks": functools.partial(symmetric, block_size=3),
    "volume in blocks": functools.partial(volume, block_size=3),
    "all triples": functools.partial(transport, match=lambda plans: plans),
    "top groups": functools.partial(transport, match=functools.partial(top_groups, count=2)),
}


def gradients(params, batch, *, axis_name):
    """The training idiom for each kernel: loss and gradient of a device, averaged over all."""
    result = {}
    for name, kernel in KERNELS.items():

        def loss(params, kernel=kernel):
            vectors = jnp.einsum("bmd,mde->mbe", batch["features"], params["maps"])
            vectors /= jnp.linalg.norm(vectors, axis=-1, keepdims=True)
            temperature = jnp.exp(params["log_temperature"])
            values = kernel(vectors, temperature, batch["where"], axis_name)
            return masked_mean(values, batch["where"], axis_name=axis_name), values

        (value, values), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        if axis_name is not None:
            value, gradient = jax.lax.pmean((value, gradient), axis_name)
        result[name] = {"loss": value, "gradient": gradient, "values": values}
    return result


def inputs(present):
    rng = np.random.default_rng(0)
    params = {
        "maps": jnp.asarray(rng.normal(size=(3, DIM, DIM)) / DIM**0.5, jnp.float32),
        "log_temperature": jnp.asarray(-0.9, jnp.float32),
    }
    batch = {
        "features": jnp.asarray(rng.normal(size=(BATCH, 3, DIM)), jnp.float32),
        "where": jnp.arange(BATCH) < present,  # of eight devices, some hold nothing of 9
    }
    return params, batch


on_one_device = jax.jit(functools.partial(gradients, axis_name=None))


@DEVICES
def test_values_and_gradients_are_those_of_one_device(engine, devices):
    for present in (BATCH, 9):
        several = run(engine, devices, gradients, *inputs(present))
        for name, expected in on_one_device(*inputs(present)).items():
            ours = several[name]
            values = ours["values"].reshape(BATCH)
            np.testing.assert_allclose(
                values, expected["values"], rtol=1e-4, atol=1e-5, err_msg=name
            )
            for leaf in ("loss", "gradient"):
                jax.tree.map(
                    lambda a, b, name=name: np.testing.assert_allclose(
                        a, np.broadcast_to(b, a.shape), rtol=1e-4, atol=2e-5, err_msg=name
                    ),
                    ours[leaf],
                    expected[leaf],
                )
            assert np.abs(expected["gradient"]["maps"]).max() > 1e-2, name


@pytest.mark.parametrize(("engine", "devices"), [("shard_map", 8), ("pmap", 4)])
def test_nothing_present_on_any_device_gives_zero_loss_and_zero_gradient(engine, devices):
    several = run(engine, devices, gradients, *inputs(0))
    for leaf in jax.tree.leaves(several):
        np.testing.assert_array_equal(leaf, 0)


def test_the_symmetric_forward_pass_does_its_share_of_one_matrix_product():
    shape = jax.ShapeDtypeStruct((4, 4, DIM), jnp.float32)
    loss = functools.partial(symmetric_info_nce, temperature=0.1, axis_name="device")
    lowered = jax.pmap(loss, axis_name="device", devices=jax.devices()[:4]).lower(shape, shape)
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) == 1 and f"tensor<4x{DIM}xf32>, tensor<16x{DIM}xf32>" in products[0]
