"""The numbers of a training, checked in one place: each with its kind, its range and its unit."""

import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

CHECKPOINT_SECONDS = 120.0  # where a configuration does not say


class Whole(NamedTuple):
    """A whole number of `unit`."""

    least: int
    unit: str
    most: float = 2**31 - 1  # steps are counted in 32 bits

    def allows(self, value: Any) -> bool:
        return isinstance(value, numbers.Integral) and self.least <= int(value) <= self.most

    def __str__(self) -> str:
        return f"a whole number of {self.unit} from {self.least} to {self.most}"


class Real(NamedTuple):
    """A number of `unit` of at least 0, or above 0."""

    unit: str
    above: bool = False

    def allows(self, value: Any) -> bool:
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            return False
        return float(value) > 0 if self.above else float(value) >= 0

    def __str__(self) -> str:
        return f"a finite number {'above' if self.above else 'of at least'} 0 ({self.unit})"


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


def check_numbers(settings: Mapping[str, Any], section: str = "") -> None:
    """Refuses a number that training cannot work with.

    Args:
      settings: some of `NUMBERS`, by name.
      section: of the configuration, where it is not the whole one.

    Raises:
      ValueError: naming the first setting at fault, its value, and what it can be.
    """
    for name, value in settings.items():
        allowed = NUMBERS[name]
        if isinstance(value, bool) or not allowed.allows(value):
            dotted = f"{section}.{name}" if section else name
            raise ValueError(f"{dotted}={value!r} is not {allowed}")
