"""One number and what it is a number of: the unit in which every protocol reports."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from unirep_jax.data.mapped import replace_file


class ResultsError(ValueError):
    """A file of measurements that is damaged: says which, where, and what to do."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A line of results.jsonl.

    value is a fraction in [0, 1], but for a rank; num_examples are those it was measured on;
    selection says how the rejection threshold was chosen ("honest", "paper", "held_out", or "none"
    and "test" where nothing is rejected), in retrieval by which score the search goes.
    """

    experiment: str
    method: str
    dataset: str
    split: str
    source: str
    target: str
    metric: str
    value: float
    num_examples: int
    seed: int
    selection: str


def write_measurements(path: Path, measurements: Iterable[Measurement]) -> None:
    """All measurements or, if the process dies, none: written beside and moved into place."""
    content = "".join(json.dumps(dataclasses.asdict(m)) + "\n" for m in measurements)
    replace_file(path, lambda stream: stream.write(content.encode()))


def read_measurements(path: Path) -> list[Measurement]:
    """What `write_measurements` has written.

    Raises:
      ResultsError: the file holds anything else.
    """
    measurements = []
    try:
        for line in path.read_text("utf-8").splitlines():
            measurements.append(Measurement(**json.loads(line)))
    except (ValueError, TypeError, RecursionError) as error:
        place = f"{path}: line {len(measurements) + 1}"
        raise ResultsError(
            f"{place} is no measurement: {error}; remove the file to judge the run again"
        ) from error
    return measurements
