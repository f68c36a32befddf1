"""What a job will cost, in words, before it starts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unirep_jax.aggregate.devices import Aggregator
from unirep_jax.aggregate.parts import Parts

_OPERATIONS = {"softmax": 4, "argmax": 2}  # for each query, item and dimension


def estimate(
    queries: Float[np.ndarray, "query dim"],
    memory: Float[np.ndarray, "item dim"],
    parts: Parts,
    own: Sequence[int],
    todo: Sequence[int],
    aggregator: Aggregator | None,
) -> str:
    """Sizes, arithmetic and, from a short probe, the time of the shards that are to be done.

    Args:
      queries, memory: of the job.
      parts: its shards.
      own: those of this process; todo: of these, those that are not on disk.
      aggregator: None where an item is only read for each query.
    """
    size = parts.count * parts.dim * parts.dtype.itemsize
    lines = [
        f"queries  {_matrix(queries)}",
        f"memory   {_matrix(memory)}",
        f"writes   {_metric(size)}B, twice that while the shards are put together",
        f"shards   {len(todo)} of {len(own)} to do here, {parts.shards} in all, "
        f"of {parts.shard_rows:,} queries",
    ]
    if aggregator is None or not todo:
        return "\n".join(lines)
    if aggregator.pieces > 1:
        sent = _metric(len(todo) * memory.nbytes)
        items = parts.settings["memory_rows"]
        lines.append(f"pieces   {aggregator.pieces} of {items:,} items; {sent}B go to each device")
    counts = [rows.stop - rows.start for rows in map(parts.rows, todo)]
    operations = _OPERATIONS[parts.settings["consistency"]] * sum(counts) * memory.size
    seconds = aggregator.seconds(queries, counts)
    rate = _metric(operations / seconds)
    lines.append(
        f"work     {_metric(operations)}FLOP; at {rate}FLOP/s, as just measured, "
        f"{_duration(seconds)}"
    )
    return "\n".join(lines)


def _matrix(array: np.ndarray) -> str:
    return f"{len(array):,} × {array.shape[1]} {array.dtype}, {_metric(array.nbytes)}B"


def _metric(value: float) -> str:
    power = 0
    while value >= 1000 and power < 5:
        value /= 1000
        power += 1
    return f"{value:.3g} {'kMGTP'[power - 1] if power else ''}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
