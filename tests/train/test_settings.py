"""Numbers of a training that cannot be are refused by name, with what they can be."""

import numpy as np
import pytest

from unirep_jax.train.settings import NUMBERS, check_numbers

NAN, INF = float("nan"), float("inf")
IMPOSSIBLE = {
    "seed": (-1, 2**32, 0.0, True, "0", None),
    "steps": (-5, 1e3, 5.5, NAN, 2**31, True),
    "batch_size": (0, -1, 8.0, True),
    "train.lr": (0, 0.0, -1e-3, NAN, INF, True, "1e-3", 1j),
    "train.warmup": (-5, 1.5, 2.0, NAN),
    "train.weight_decay": (-0.1, NAN, INF),
    "train.clip": (-1, NAN, INF),
    "train.log_every": (0, -1, 1.0),
    "train.checkpoint_every": (0, -1, 1.0),
    "train.checkpoint_seconds": (0, -1.0, NAN, INF),
    "train.fused": (0, -1, 2.0),
}
POSSIBLE = {
    "seed": (0, 2**31, 2**32 - 1, np.int64(3)),
    "steps": (0, 500, np.int32(7)),
    "batch_size": (1, 80),
    "train.lr": (1e-3, 1, np.float32(0.1)),
    "train.warmup": (0, 20),
    "train.weight_decay": (0, 0.0, 0.01),
    "train.clip": (0, 0.0, 1.0),
    "train.log_every": (1, 50),
    "train.checkpoint_every": (1, 500),
    "train.checkpoint_seconds": (120, 0.5),
    "train.fused": (1, 20),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_a_number_can_be_passes_and_all_else_is_named(name):
    for value in POSSIBLE[name]:
        check_numbers({name: value})
    for value in IMPOSSIBLE[name]:
        with pytest.raises(ValueError) as caught:
            check_numbers({name: value}, "pretrain")
        message = str(caught.value)
        assert message.startswith(f"--config.pretrain.{name}={value!r} is not a ")
        assert NUMBERS[name].unit in message and "\n" not in message
