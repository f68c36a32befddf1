"""One tower per modality: features of any shape to a vector of a common space."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from unirep_jax.models.encoders import Encoder, common_time
from unirep_jax.models.linear_path import LinearPath

Inputs = dict[str, Float[Array, "..."]]


class Towers(nn.Module):
    """Features of one example to [modality, dim], not yet normalised. Callers `jax.vmap` it.

    Rows are in the alphabetical order of the modalities, in which JAX keeps dictionaries.

    Without layers a tower is what GRAM and MOVER put on frozen features: one bias-free linear map.
    With layers, convolution blocks over time stand before it; on a plain vector they are residual
    blocks of a multilayer perceptron. The map sees all time steps, not their mean: when something
    happens is what tells examples of a class apart.

    Attributes:
      shapes: (modality, shape of one example) of the modalities that calls may name.
      dim: of the common space.
      layers, width, dropout: blocks before the projection, their channels and dropout rate.
      linear: a `LinearPath` beside every tower, whose own output begins at zero.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    dim: int
    layers: int = 0
    width: int = 256
    dropout: float = 0.0
    linear: bool = False

    def setup(self) -> None:
        names = [m for m, _ in self.shapes]
        if self.layers:
            self.encoders = {
                m: Encoder(
                    self.width,
                    common_time({m: shape}),
                    "convolution",
                    self.layers,
                    dropout=self.dropout,
                )
                for m, shape in self.shapes
            }
        init = nn.initializers.zeros if self.linear else nn.initializers.lecun_normal()
        self.projections = {m: nn.Dense(self.dim, use_bias=False, kernel_init=init) for m in names}
        if self.linear:
            self.linears = {m: LinearPath(self.dim) for m in names}

    def __call__(self, inputs: Inputs, *, train: bool) -> Float[Array, "modality dim"]:
        names = sorted(inputs)
        vectors = [self.projections[m](self._flat(m, inputs[m], train)) for m in names]
        if self.linear:
            paths = [self.linears[m](inputs[m]) for m in names]
            vectors = [v + path for v, path in zip(vectors, paths, strict=True)]
        return jnp.stack(vectors)

    def _flat(self, modality: str, x: Float[Array, "..."], train: bool) -> Float[Array, "channel"]:
        return (self.encoders[modality](x, train=train) if self.layers else x).reshape(-1)
