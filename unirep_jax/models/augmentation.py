"""Augmentation of standardised features, one example at a time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def augment(
    inputs: dict[str, Float[Array, "..."]],
    key: Key[Array, ""],
    *,
    noise: float = 0.0,
    gain: float = 0.0,
    warp: float = 0.0,
) -> dict[str, Float[Array, "..."]]:
    """Noise, channel gain and a time window, for all modalities of one example; 0 switches one off.

    Args:
      inputs: per modality [steps, ..., channels] or [channels], zero mean and unit variance.
      key: of this example.
      noise: standard deviation of what is added to every entry.
      gain: standard deviation of a factor around 1, drawn per channel.
      warp: largest share of the duration cut from each end; what remains is stretched back by
        linear interpolation. All modalities keep the same window, so they stay aligned.
    """
    window_key, key = jax.random.split(key)
    start, stop = jax.random.uniform(window_key, (2,)) * warp
    outputs = {}
    for place, (modality, x) in enumerate(inputs.items()):
        gain_key, noise_key = jax.random.split(jax.random.fold_in(key, place))
        if warp and x.ndim > 1 and x.shape[0] > 1:
            x = _resample(x, start, 1 - stop)
        if gain:
            factor = 1 + gain * jax.random.normal(gain_key, x.shape[-1:])
            x = x * factor.reshape((1,) * (x.ndim - 1) + (-1,))
        if noise:
            x = x + noise * jax.random.normal(noise_key, x.shape)
        outputs[modality] = x
    return outputs


def _resample(x, start, stop):
    """The part of x between two relative times, at its full number of steps."""
    steps = x.shape[0]
    position = jnp.linspace(start, stop, steps) * (steps - 1)
    weight = jnp.maximum(1 - jnp.abs(position[:, None] - jnp.arange(steps, dtype=x.dtype)[None]), 0)
    return jnp.einsum("ts,s...->t...", weight, x)
