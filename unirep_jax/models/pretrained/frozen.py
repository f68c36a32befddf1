"""Layers of frozen convolutional networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class FrozenBatchNorm(nn.Module):
    """Batch normalisation of the last axis by published statistics, which are parameters here."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "... channel"]) -> Float[Array, "... channel"]:
        shape = x.shape[-1:]
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        mean = self.param("running_mean", zeros, shape)
        variance = self.param("running_var", ones, shape)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        rows = (1,) * (x.ndim - 1)
        return x * factor.reshape(*rows, -1) + (bias - mean * factor).reshape(*rows, -1)


class Depthwise(nn.Module):
    """A convolution of each channel by itself, padded as TensorFlow's SAME.

    A sum of shifted images: on a processor XLA's grouped convolution is three to twenty times
    slower.

    Attributes:
      size: of the kernel.
      stride: between outputs.
    """

    size: int
    stride: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch rows columns channel"]:
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        height, width = (-(-n // self.stride) for n in x.shape[1:3])
        x = jnp.pad(x, same_padding(x.shape[1:3], self.size, self.stride))
        total = jnp.zeros((len(x), height, width, x.shape[-1]), x.dtype)
        for row in range(self.size):
            for column in range(self.size):
                part = x[:, row :: self.stride, column :: self.stride][:, :height, :width]
                total = total + part * kernel[row, column][None, None]
        return total


def same_padding(shape: tuple[int, ...], size: int, stride: int) -> list[tuple[int, int]]:
    """Of the axes of a batch of images; the larger half of an odd margin comes last."""
    total = [max(0, (-(-n // stride) - 1) * stride + size - n) for n in shape]
    return [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)]
