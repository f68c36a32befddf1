"""First parameters of a module, by a program that is compiled once."""

from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Key


def initialize(module: nn.Module, key: Key[Array, ""], *inputs: Any, **static: Any) -> dict:
    """`module.init(key, *inputs, **static)`, compiled.

    A run makes its network more than once: for the rehearsal, for training, for baselines. Equal
    modules share one program, which `jax.jit(module.init)` would compile for each of them.

    Args:
      module: hashable, as modules are whose attributes are.
      static: arguments that are part of the program, such as `train`.
    """
    return _program(module, tuple(sorted(static.items())))(key, *inputs)


@cache
def _program(module: nn.Module, static: tuple) -> Any:
    return jax.jit(partial(module.init, **dict(static)))
