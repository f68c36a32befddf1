"""Projector from an embedding space to the common space of two connected ones."""

import flax.linen as nn
from jaxtyping import Array, Float


class Projector(nn.Module):
    """Embeddings of one space to the common one, not yet normalised; called on a whole batch.

    Linear, batch normalisation, ReLU, linear, batch normalisation and, as Table 6 of C-MCR has it,
    ReLU. The authors' released projectors of CLIP and CLAP lack the last ReLU, those of ULIP and
    CLIP the first three layers.

    Attributes:
      dim: of the common space.
      hidden: width between the two linear maps; 0 for one linear map alone.
      final_relu: a common space without negative entries, in which no cosine is negative.
      axis_name: mapped axis whose devices hold the rest of the batch, for batch statistics.
    """

    dim: int = 512
    hidden: int = 1024
    final_relu: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch in"], *, train: bool) -> Float[Array, "batch dim"]:
        if self.hidden:
            x = nn.relu(self._normalize(nn.Dense(self.hidden)(x), train))
        x = self._normalize(nn.Dense(self.dim)(x), train)
        return nn.relu(x) if self.final_relu else x

    def _normalize(self, x: Float[Array, "batch dim"], train: bool) -> Float[Array, "batch dim"]:
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            axis_name=self.axis_name,
            use_fast_variance=False,
        )(x)
