"""Equal modules get their first parameters from one compiled program."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.methods import CMCR, MICU, MOVER
from unirep_jax.models import initial
from unirep_jax.models.initial import initialize

TRACES = []


class Counted(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, *, train):
        TRACES.append(train)
        return nn.Dense(self.width)(x)


def test_equal_modules_are_traced_once_and_get_what_init_gives():
    TRACES.clear()
    x = jnp.zeros(4)
    first, second = (initialize(Counted(3), jax.random.key(s), x, train=True) for s in (0, 1))
    assert TRACES == [True]
    initialize(Counted(3), jax.random.key(0), x, train=False)
    initialize(Counted(2), jax.random.key(0), x, train=True)
    assert TRACES == [True, False, True]
    expected = jax.jit(lambda key: Counted(3).init(key, x, train=True))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, first, expected)
    kernels = [v["params"]["Dense_0"]["kernel"] for v in (first, second)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize("method", [MICU, MOVER, CMCR])
def test_a_method_that_is_made_again_compiles_no_other_network(method):
    """As training does after the rehearsal."""
    shapes = {"audio": (2, 3), "text": (2, 4), "video": (2, 5)}
    if method is CMCR:
        shapes = dict.fromkeys(("text_1", "image_1", "text_2", "audio_2"), (6,))
    statistics = {m: (np.zeros(s[-1]), np.ones(s[-1])) for m, s in shapes.items()}
    made = []
    for _ in range(2):
        again = method().for_data(shapes, classes=0)
        made.append(again.init(jax.random.key(0), shapes, statistics)[0])
        programs = initial._program.cache_info().misses
        if len(made) == 1:
            first = programs
    assert programs == first
    jax.tree.map(np.testing.assert_array_equal, *made)
