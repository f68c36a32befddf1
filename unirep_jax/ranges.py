"""What numbers a setting may have: kind, range and unit, for one line that refuses others."""

import math
import numbers
from typing import Any, NamedTuple


class Whole(NamedTuple):
    """A whole number of `unit`."""

    least: int
    unit: str
    most: float = 2**31 - 1  # steps are counted in 32 bits

    def allows(self, value: Any) -> bool:
        return isinstance(value, numbers.Integral) and self.least <= int(value) <= self.most

    def nearest(self, value: Any) -> str:
        """The allowed number next to one that is not; "" of what is no number."""
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            return ""
        return str(int(min(max(round(float(value)), self.least), self.most)))

    def __str__(self) -> str:
        return f"a whole number of {self.unit} from {self.least} to {self.most}"


class Real(NamedTuple):
    """A finite number of `unit` of at least 0, or above 0, and at most `most`, or below it."""

    unit: str
    above: bool = False
    most: float = math.inf
    below: bool = False

    def allows(self, value: Any) -> bool:
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            return False
        high_enough = float(value) > 0 if self.above else float(value) >= 0
        return high_enough and (value < self.most if self.below else value <= self.most)

    def nearest(self, value: Any) -> str:
        """0 of a number below it where 0 is allowed, the limit of one above; else ""."""
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            return ""
        if value <= 0:
            return "" if self.above else "0"
        return "" if self.below else f"{self.most:g}"

    def __str__(self) -> str:
        limit = f" and {'below' if self.below else 'at most'} {self.most:g}"
        limit = limit if math.isfinite(self.most) else ""
        return f"a finite number {'above' if self.above else 'of at least'} 0{limit} ({self.unit})"


def check_number(name: str, value: Any, allowed: Whole | Real) -> None:
    """Refuses any other number, and what is none.

    Raises:
      ValueError: naming the setting, its value, and what it can be.
    """
    if isinstance(value, bool) or not allowed.allows(value):
        near = allowed.nearest(value)
        near = f"; the nearest is {near}" if near else ""
        raise ValueError(f"{name}={value!r} is not {allowed}{near}")
