"""Phases of training as shares of its steps, so that more or fewer steps keep their proportions."""

from collections.abc import Mapping


def ends(phases: Mapping[str, float], steps: int, every: int = 0) -> tuple[int, ...]:
    """The step at which each phase ends; what is left of the steps is the last phase.

    Args:
      phases: share of the steps by name, in order.
      every: an end is rounded to a multiple of this; 0 stands for 1.
    """
    every, total, found = max(every, 1), 0.0, []
    for share in phases.values():
        total += share
        found.append(every * round(total * steps / every))
    return tuple(found)


def check_phases(phases: Mapping[str, float], steps: int, every: int = 0) -> None:
    """Refuses a schedule that leaves a phase without a step; a share of 0 leaves a phase out.

    Without any step nothing is trained, and nothing refused.

    Raises:
      ValueError: naming the first such phase, or the last one, "explore".
    """
    starts, start = {}, 0
    for name, end in zip(phases, ends(phases, steps, every), strict=True):
        starts[name] = (start, end)
        start = end
    starts["explore"] = (start, steps)
    for name, (first, last) in starts.items():
        if steps and last <= first and phases.get(name, 1.0) > 0:
            shares = ", ".join(f"{key}={share:g}" for key, share in phases.items())
            rounded = f", in multiples of refresh_every={every}" if every > 1 else ""
            raise ValueError(
                f"steps={steps}: {shares}, shares of the steps{rounded}, leave no step to {name!r}"
            )
