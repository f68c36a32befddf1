"""A metric value with its metadata: the unit in which every task reports."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unirep_jax.data.files import read_text
from unirep_jax.data.mapped import replace_file

_TEXTS = ("experiment", "method", "dataset", "split", "source", "target", "metric", "selection")
_COUNTS = {"num_examples": 1 << 53, "seed": (1 << 64) - 1}  # each up to the largest there is
_MOST_LETTERS = 1_000
_LARGEST_VALUE = 1e15  # of a rank
_FILE_BYTES = 1 << 30


class ResultsError(ValueError):
    """A file of measurements that is damaged: says which, where, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
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

    @classmethod
    def from_json(cls, row: object) -> "Measurement":
        """A line that was parsed, checked.

        Raises:
          ValueError: it is no object with exactly these fields, or one is of another type or out
            of range. The value may be NaN, which says that it is not defined.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(row, dict) or row.keys() != names:
            raise ValueError(f"expected an object with {', '.join(sorted(names))}")
        for name in _TEXTS:
            if type(row[name]) is not str or len(row[name]) > _MOST_LETTERS:
                raise ValueError(f"{name}: expected a text, found {row[name]!r:.80}")
        for name, largest in _COUNTS.items():
            if type(row[name]) is not int or not 0 <= row[name] <= largest:
                raise ValueError(f"{name}: expected 0 … {largest}, found {row[name]!r:.80}")
        value = row["value"]
        if type(value) not in (int, float) or abs(value) > _LARGEST_VALUE:
            raise ValueError(f"value: expected a number, found {value!r:.80}")
        return cls(**row | {"value": float(value)})


def row(
    metric: str,
    value: Any,  # whatever float() takes
    chance: float | None,
    examples: int,
    *,
    target: str = "",
    selection: str = "test",
) -> dict[str, Any]:
    """A row for `measured`. chance: what guessing gives; examples: how many were measured."""
    return {
        "metric": metric,
        "value": float(value),
        "chance": chance,
        "target": target,
        "num_examples": int(examples),
        "selection": selection,
    }


def measured(row: Mapping[str, Any], **fields: Any) -> Iterator[Measurement]:
    """The measurement of a row and, where the row has a `chance`, that of guessing.

    Args:
      row: what was measured: the fields of a `Measurement` that the caller's `fields` lack.
    """
    known = {name: value for name, value in row.items() if name != "chance"}
    found = Measurement(**fields, **known)
    yield found
    if row.get("chance") is not None:
        yield dataclasses.replace(found, method="chance", value=row["chance"])


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
        for line in read_text(path, _FILE_BYTES).split("\n"):
            if line.strip():
                measurements.append(Measurement.from_json(json.loads(line)))
    except (ValueError, TypeError, RecursionError) as error:
        place = f"{path}: line {len(measurements) + 1}"
        raise ResultsError(
            f"{place} is no measurement: {error}; remove the file to evaluate the run again"
        ) from error
    return measurements
