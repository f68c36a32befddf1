"""Beginning at linear CCA: with few pairs it is hard to beat, so training starts there.

A method with `linear_start` adds to every encoder a linear path, whose weights begin at linear CCA
of the training pairs, while the encoder's own output begins at zero. Step 0 is CCA; what training
adds is a correction of it. No paper of these methods does this: it is ours, for small data.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from unirep_jax.data.features import FeatureSet
from unirep_jax.methods.baselines import CCA

PATH = "linears_{}"  # name of a modality's `LinearPath` among the parameters of a network
MOST_FEATURES = 1 << 16  # of an example: a map of more would be most of the network


def check_linear_start(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses features that no linear path can read.

    Raises:
      ValueError: naming the modality and its shape.
    """
    for modality, shape in shapes.items():
        if np.prod(shape) > MOST_FEATURES:
            raise ValueError(
                f"linear_start: {modality} has {list(shape)} features, more than {MOST_FEATURES}"
            )


def begin_at_cca(training_set: FeatureSet, dim: int) -> Callable[[dict], dict]:
    """What replaces, among the parameters of a network, those of its linear paths.

    Args:
      training_set: whose standardised features the network reads.
      dim: of the paths; directions beyond those that CCA finds are zero.
    """
    solution, _ = CCA(dim=dim).solve(training_set)
    paths = {}
    for modality, project in solution["project"].items():
        kernel = jnp.zeros((project.shape[0], dim)).at[:, : project.shape[1]].set(project)
        bias = -jnp.matmul(solution["shift"][modality], kernel, precision="highest")
        paths[PATH.format(modality)] = {"map": {"kernel": kernel, "bias": bias}}
    return lambda params: params | paths
