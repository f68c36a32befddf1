"""Residual networks for images, spectrograms and depth maps, read out as token sequences.

As every module, they work on ONE example and callers `jax.vmap` over the batch. Batch statistics,
the one thing that concerns several examples, are sums over the mapped axis, which therefore has a
name. The updated statistics are the same for all examples, hence `out_axes=None`:

    def encode(x, present):
        return network.apply(variables, x, present, train=True, mutable=["batch_stats"])

    (tokens, mask), updated = jax.vmap(encode, out_axes=((0, 0), None), axis_name="example")(
        features, present
    )

Evaluation uses the running statistics, for which no axis needs a name.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unirep_jax.losses.precision import accumulation_dtype


class BatchNorm(nn.Module):
    """Batch normalisation over the examples that count, on all devices together.

    Running statistics live in "batch_stats". Devices may hold different numbers of examples that
    count, even none; where none is left anywhere, the running statistics are used and kept.

    ≠ `flax.linen.BatchNorm`, which averages the devices' masked means as if their counts were equal
    and gives NaN when one count is 0.

    Attributes:
      axes: names of the mapped axes over which sums are taken in training: that of the examples
        and, where the batch is spread over devices, that of the devices.
      momentum: share of the old running statistics that a step keeps.
      epsilon: added to the variance.
    """

    axes: tuple[str, ...] = ("example",)
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "frame height width channel"], where: Bool[Array, ""], *, train: bool
    ) -> Float[Array, "frame height width channel"]:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "variance", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        mean, variance = running_mean.value, running_variance.value
        if train:
            mean, variance, used = self._moments(x, where, mean, variance)
            if not self.is_initializing():
                keep = jnp.where(used, self.momentum, 1)
                for running, now in ((running_mean, mean), (running_variance, variance)):
                    running.value = keep * running.value + (1 - keep) * jax.lax.stop_gradient(now)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        offset = bias - mean * factor
        spread = lambda v: v[None, None, None]
        y = x.astype(accumulation_dtype(x)) * spread(factor) + spread(offset)
        return y.astype(x.dtype)

    def _moments(self, x, where, mean, variance):
        """Mean and variance of what counts, in one reduction; the given ones if nothing does."""
        kept = jnp.where(where, x.astype(accumulation_dtype(x)), 0)
        count = jnp.where(where, math.prod(x.shape[:-1]), 0).astype(kept.dtype)
        sums = [jnp.sum(kept, (0, 1, 2)), jnp.sum(kept * kept, (0, 1, 2)), count[None]]
        sums = jax.lax.psum(jnp.concatenate(sums), self.axes)
        used = sums[-1] > 0
        first, second = sums[:-1].reshape(2, -1) / jnp.where(used, sums[-1], 1)
        spread = jnp.maximum(second - first * first, 0)
        return jnp.where(used, first, mean), jnp.where(used, spread, variance), used


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, projected where the shape changes (He et al. 2016)."""

    width: int
    stride: int
    axes: tuple[str, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "frame height width channel"], where: Bool[Array, ""], *, train: bool
    ) -> Float[Array, "frame rows columns features"]:
        norm = lambda y: BatchNorm(self.axes)(y, where, train=train)
        y = nn.relu(norm(_convolution(self.width, 3, self.stride, self.dtype)(x)))
        y = norm(_convolution(self.width, 3, 1, self.dtype)(y))
        if y.shape != x.shape:
            x = norm(_convolution(self.width, 1, self.stride, self.dtype)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet-34 without its classifier, from scratch; the last map's positions are the tokens.

    Images of any size and number of channels; a frame axis before height is folded into positions,
    so that videos give the tokens of all their frames. 224×224 pixels give 7×7 tokens of 512.

    Attributes:
      stages: basic blocks per stage; each stage after the first halves the map.
      width: channels of the first stage, doubled by each further one.
      small_inputs: start with a 3×3 convolution at full resolution instead of a 7×7 convolution
        and a pooling that together leave a sixteenth of the positions. None: for ≤ 64 pixels.
      axes: names of the mapped axes over which batch statistics are taken, see `BatchNorm`.
      dtype: of the convolutions; parameters and statistics stay float32.

    Reference: He et al., "Deep residual learning for image recognition", CVPR 2016, table 1.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    small_inputs: bool | None = None
    axes: tuple[str, ...] = ("example",)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*frames height width channel"],
        present: Bool[Array, ""],
        *,
        train: bool,
    ) -> tuple[Float[Array, "position dim"], Bool[Array, "position"]]:
        """Tokens, and that they are there: all, or none if the example is absent.

        What an absent example holds, even NaN, has no effect on statistics or gradients.
        """
        x = jnp.where(present, x.astype(self.dtype), 0)
        x = x.reshape(-1, *x.shape[-3:])
        small = max(x.shape[1:3]) <= 64 if self.small_inputs is None else self.small_inputs
        x = _convolution(self.width, *((3, 1) if small else (7, 2)), self.dtype)(x)
        x = nn.relu(BatchNorm(self.axes)(x, present, train=train))
        if not small:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                width = self.width * 2**stage
                x = BasicBlock(width, stride, self.axes, self.dtype)(x, present, train=train)
        x = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
        return x, jnp.broadcast_to(present, x.shape[:1])


def _convolution(features: int, size: int, stride: int, dtype: jnp.dtype) -> nn.Conv:
    """Without bias, He-initialised, padded alike on both sides at any stride."""
    margin = (size // 2, size // 2)
    init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    return nn.Conv(
        features,
        (size, size),
        stride,
        (margin, margin),
        use_bias=False,
        dtype=dtype,
        kernel_init=init,
    )
