"""The numbers of a training, checked in one place: each with its kind, its range and its unit."""

from collections.abc import Mapping
from typing import Any

from unirep_jax.ranges import Real, Whole, check_number

CHECKPOINT_SECONDS = 120.0  # where a configuration does not say


NUMBERS: dict[str, Whole | Real] = {
    "seed": Whole(0, "32 bits", 2**32 - 1),
    "steps": Whole(0, "steps"),
    "batch_size": Whole(1, "examples"),
    "train.lr": Real("the learning rate", above=True),
    "train.warmup": Whole(0, "steps"),
    "train.weight_decay": Real("share of a parameter, times the learning rate, a step"),
    "train.clip": Real("largest norm of the gradient; 0 for any"),
    "train.log_every": Whole(1, "steps"),
    "train.checkpoint_every": Whole(1, "steps"),
    "train.checkpoint_seconds": Real("seconds", above=True),
    "train.fused": Whole(1, "steps"),
}


def check_training(settings: Any, seed: int, section: str = "") -> None:
    """Refuses impossible numbers of a configuration: `steps`, `batch_size`, `train` and the seed.

    Raises:
      ValueError: as `check_numbers`.
    """
    numbers = {"seed": seed, "steps": settings.steps, "batch_size": settings.batch_size}
    numbers |= {f"train.{k}": v for k, v in settings.train.items() if f"train.{k}" in NUMBERS}
    check_numbers(numbers, section)


def check_numbers(settings: Mapping[str, Any], section: str = "") -> None:
    """Refuses a number that training cannot work with.

    Args:
      settings: some of `NUMBERS`, by name.
      section: of the configuration, where it is not the whole one.

    Raises:
      ValueError: naming the first setting at fault, its value, and what it can be.
    """
    for name, value in settings.items():
        flag = f"--config.{section}.{name}" if section else f"--config.{name}"
        check_number(flag, value, NUMBERS[name])
