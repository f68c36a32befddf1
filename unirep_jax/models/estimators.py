"""CLUB Gaussian estimator, and CPC future predictor.

Every module works on ONE example, like the encoders.
"""

import flax.linen as nn
from jaxtyping import Array, Float


class GaussianEstimator(nn.Module):
    """Mean and log-variance of a Gaussian over y, given x at the same step.

    Two networks of three hidden layers; the log-variance is kept in ±1, so that no target is ever
    certain. Structure of DCID's code.
    """

    outputs: int
    hidden: int = 128
    layers: int = 3

    @nn.compact
    def __call__(
        self, x: Float[Array, "time dim"]
    ) -> tuple[Float[Array, "time output"], Float[Array, "time output"]]:
        def network(x, name):
            for place in range(self.layers):
                x = nn.relu(nn.Dense(self.hidden, name=f"{name}_{place}")(x))
            return nn.Dense(self.outputs, name=f"{name}_output")(x)

        return network(x, "mean"), nn.tanh(network(x, "log_variance"))


class FuturePredictor(nn.Module):
    """What a sequence up to each step makes one expect of the next ones.

    A stack of LSTMs reads the sequence; a linear map per step ahead predicts from its state.
    """

    steps: int
    layers: int = 2

    @nn.compact
    def __call__(self, z: Float[Array, "time dim"]) -> Float[Array, "time step dim"]:
        time, dim = z.shape
        context = z
        for _ in range(self.layers):
            context = nn.RNN(nn.OptimizedLSTMCell(dim))(context)
        return nn.Dense(self.steps * dim)(context).reshape(time, self.steps, dim)
