"""Logged quantities step by step, in a memory that does not grow with the log."""

from collections.abc import Iterable
from typing import NamedTuple

_KEPT = 1_024  # points of a quantity, at least, of a longer log


class Point(NamedTuple):
    """The mean of consecutive lines of a log, the least and the greatest, under the last step."""

    step: int
    mean: float
    low: float
    high: float


def read_series(lines: Iterable[tuple[int, dict[str, float]]]) -> dict[str, list[Point]]:
    """What each quantity was at which step, of long logs the means of consecutive lines.

    Args:
      lines: steps, ascending, and the quantities logged there.

    Returns:
      Name -> at most 2,048 points, each of as many lines as any other of its quantity but the last.
    """
    found: dict[str, _Series] = {}
    for step, row in lines:
        for name, value in row.items():
            found.setdefault(name, _Series()).add(step, value)
    return {name: series.points() for name, series in found.items()}


class _Series:
    """Buckets of `size` lines: last step, number, sum, least, greatest."""

    def __init__(self) -> None:
        self.size = 1
        self.buckets: list[list[float]] = []

    def add(self, step: int, value: float) -> None:
        if not self.buckets or self.buckets[-1][1] == self.size:
            if len(self.buckets) == 2 * _KEPT:
                pairs = zip(self.buckets[::2], self.buckets[1::2], strict=True)
                self.buckets = [_joined(a, b) for a, b in pairs]
                self.size *= 2
            self.buckets.append([step, 1, value, value, value])
        else:
            self.buckets[-1] = _joined(self.buckets[-1], [step, 1, value, value, value])

    def points(self) -> list[Point]:
        return [
            Point(int(step), total / count, low, high)
            for step, count, total, low, high in self.buckets
        ]


def _joined(a: list[float], b: list[float]) -> list[float]:
    return [b[0], a[1] + b[1], a[2] + b[2], min(a[3], b[3]), max(a[4], b[4])]
