"""One number and what it is a number of: the unit in which every protocol reports."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path


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
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(dataclasses.asdict(m)) + "\n" for m in measurements))
    temporary.replace(path)


def read_measurements(path: Path) -> list[Measurement]:
    return [Measurement(**json.loads(line)) for line in path.read_text().splitlines()]
