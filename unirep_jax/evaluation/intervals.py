"""What ± means, everywhere: half the width of a 95 % confidence interval."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
INTERVAL = (
    f"Mean ± half the width of the {100 * CONFIDENCE:.0f} % confidence interval of Student's t "
    "over seeds; a single seed has none."
)


class Estimate(NamedTuple):
    """A mean over seeds and half the width of its confidence interval, None of a single seed."""

    mean: float
    half_width: float | None
    seeds: int

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.1f} ± {self.half_width:.1f}"


class Difference(NamedTuple):
    """A mean difference and half the width of its interval, None where there is none."""

    mean: float
    half_width: float | None
    seeds: int

    @property
    def distinguishable(self) -> bool:
        """Whether the interval is there and does not hold 0."""
        return self.half_width is not None and abs(self.mean) > self.half_width

    def __str__(self) -> str:
        sign = f"{self.mean:+.1f}".replace("-", "−")
        if self.half_width is None:
            return sign
        text = f"{sign} ± {self.half_width:.1f}"
        return text if self.distinguishable else f"{text}, not distinguishable"


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and 95 % confidence interval of Student's t: x̄ ± t₀.₉₇₅(n − 1) · s / √n.

    Args:
      values: one per seed.

    Returns:
      None of no values; without interval of one.
    """
    if not values:
        return None
    half_width, count = None, len(values)
    if count > 1:
        quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
        half_width = quantile * statistics.stdev(values) / math.sqrt(count)
    return Estimate(statistics.fmean(values), half_width, count)


def paired_difference(
    values: Mapping[int, float], others: Mapping[int, float]
) -> Difference | None:
    """values − others, by seed: the interval is that of the differences over the shared seeds.

    What the seeds have in common, for instance an easy split of the classes, cancels.

    Returns:
      None where no seed is shared; without interval where one is.
    """
    shared = [seed for seed in values if seed in others]
    found = estimate([values[seed] - others[seed] for seed in shared])
    return None if found is None else Difference(*found)


def difference_of_shares(
    values: Sequence[float], others: Sequence[float], counts: Sequence[int]
) -> Difference:
    """values − others of one seed, and an interval over its test examples that is never too narrow.

    A mean over n examples of something within 0 … 1 has a variance of at most v (1 − v) / n, that
    of a share. Both methods see the same examples, and so do the places (directions between
    modalities, say): their correlations are not known here. Those of the two methods are counted as
    none, which widens the interval where they are positive; those of places as perfect.

        half width = z₀.₉₇₅ · mean over places of √((v (1 − v) + w (1 − w)) / n)

    Args:
      values, others: means at each place, within 0 … 1; at least one.
      counts: examples of each place, 1 or more.
    """
    spread = lambda v: max(v * (1 - v), 0.0)
    errors = [
        math.sqrt((spread(v) + spread(w)) / n)
        for v, w, n in zip(values, others, counts, strict=True)
    ]
    half_width = float(ndtri((1 + CONFIDENCE) / 2)) * statistics.fmean(errors)
    return Difference(statistics.fmean(values) - statistics.fmean(others), half_width, 1)
