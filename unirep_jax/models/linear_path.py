"""A linear map beside an encoder, which may begin at a solution in closed form."""

import flax.linen as nn
from jaxtyping import Array, Float

from unirep_jax.losses import unit


class LinearPath(nn.Module):
    """All features of one example to one vector whose entries are of order one.

    Attributes:
      dim: of the vector.
    """

    dim: int

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "dim"]:
        # At one length, as the vectors of CCA are compared, and of the scale of a LayerNorm.
        return unit(nn.Dense(self.dim, name="map")(x.reshape(-1))) * self.dim**0.5
