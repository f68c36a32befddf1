"""Aggregation on all local devices: queries are split, the memory is there whole or in pieces."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from unirep_jax.losses import argmax_aggregate, mix_items

_AXIS = "device"
_QUERY_ROWS = 4096  # of a device at a time
_PROBE_ITEMS = 1 << 14
_PROBE_SECONDS = 0.1


class _Rule(NamedTuple):
    """How a partial result is updated with one piece of a memory: (queries, items, where)."""

    start: Callable[..., Any]
    add: Callable[..., Any]
    finish: Callable[[Any], jax.Array]


class Aggregator:
    """Soft aggregates, or the most similar items, of queries in a memory of any size.

    Every device holds one piece of the memory and receives the next meanwhile; an only piece is
    sent once. The result does not depend on how many queries are asked together.

    Args:
      memory: [item, dim], possibly memory-mapped.
      consistency: "softmax" or "argmax".
      temperature: of "softmax".
      query_rows: of a call, at most.
      memory_rows: items of a piece.
      memory_block: items handled at a time.
      devices: all local ones by default.
    """

    def __init__(
        self,
        memory: Float[np.ndarray, "item dim"],
        *,
        consistency: str,
        temperature: float,
        query_rows: int,
        memory_rows: int,
        memory_block: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        devices = jax.local_devices() if devices is None else devices
        self._memory, self._memory_rows = memory, min(memory_rows, len(memory))
        self.pieces = -(-len(memory) // self._memory_rows)
        self._rows = min(_QUERY_ROWS, -(-query_rows // len(devices))) * len(devices)
        mesh = jax.sharding.Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))
        self._replicated, self._split = NamedSharding(mesh, P()), NamedSharding(mesh, P(_AXIS))
        rules: dict[str, Any] = {"softmax": partial(_softmax, temperature), "argmax": _argmax}
        rule = rules[consistency](memory_block)
        mapped = partial(jax.shard_map, mesh=mesh, out_specs=P(_AXIS), check_vma=False)
        self._start = jax.jit(mapped(rule.start, in_specs=P(_AXIS)))
        self._add = jax.jit(mapped(rule.add, in_specs=(P(_AXIS), P(_AXIS), P(), P())))
        self._finish = jax.jit(mapped(rule.finish, in_specs=P(_AXIS)))
        self._only_piece = None

    def __call__(self, queries: Float[np.ndarray, "query dim"]) -> Float[np.ndarray, "query dim"]:
        """The result for each query, float32."""
        parts = [self._place(queries[i : i + self._rows]) for i in self._starts(len(queries))]
        states = [self._start(part) for part in parts]
        piece = self._piece(0)
        for place in range(self.pieces):
            states = [self._add(s, q, *piece) for s, q in zip(states, parts, strict=True)]
            if place + 1 < self.pieces:
                piece = self._piece(place + 1)  # while the devices compute
            jax.block_until_ready(states)  # or pieces would pile up on the devices
        return np.concatenate([np.asarray(self._finish(s)) for s in states])[: len(queries)]

    def seconds(self, queries: Float[np.ndarray, "query dim"], shards: Sequence[int]) -> float:
        """How long shards of so many queries will take, from a probe over some of the memory."""
        items = min(_PROBE_ITEMS, self._memory_rows)
        piece = self._piece(0, items)
        part = self._place(queries[: self._rows])
        state = self._start(part)
        jax.block_until_ready(self._add(state, part, *piece))  # compiles
        runs, passed = 1, 0.0
        while passed < _PROBE_SECONDS:
            runs *= 2
            start = time.perf_counter()
            states = [self._add(state, part, *piece) for _ in range(runs)]
            jax.block_until_ready(states)
            passed = time.perf_counter() - start
        calls = sum(len(self._starts(count)) for count in shards)
        return calls * passed / runs * len(self._memory) / items

    def _starts(self, count: int) -> range:
        return range(0, count, self._rows)

    def _place(self, queries: np.ndarray) -> jax.Array:
        # Rows of zeros fill the last call, which then needs no program of its own.
        full = np.zeros((self._rows, queries.shape[1]), queries.dtype)
        full[: len(queries)] = queries
        return jax.device_put(full, self._split)

    def _piece(self, place: int, rows: int | None = None) -> tuple[jax.Array, jax.Array]:
        """One piece of the memory, padded, and a mask of its real items."""
        if rows is None and self._only_piece is not None:
            return self._only_piece
        length = self._memory_rows if rows is None else rows
        items = self._memory[place * length : (place + 1) * length]
        where = np.arange(length) < len(items)
        if len(items) < length:
            items = np.pad(items, ((0, length - len(items)), (0, 0)))
        piece = jax.device_put((np.asarray(items), where), self._replicated)
        if rows is None and self.pieces == 1:
            self._only_piece = piece
        return piece


def _softmax(temperature: float, block_size: int) -> _Rule:
    def add(mixture, queries, items, where):
        return mix_items(
            queries,
            items,
            temperature=temperature,
            so_far=mixture,
            block_size=block_size,
            where=where,
        )

    start = lambda queries: mix_items(queries, queries[:0], temperature=temperature)
    return _Rule(start, add, lambda mixture: mixture.mean())


def _argmax(block_size: int) -> _Rule:
    def start(queries):
        rows = jnp.zeros(queries.shape, jnp.float32)
        return jnp.full(len(queries), -jnp.inf, jnp.float32), rows

    def add(best, queries, items, where):
        score, row = best
        found = argmax_aggregate(queries, items, block_size=block_size, where=where)
        similarity = jnp.sum(queries.astype(jnp.float32) * found, axis=1)
        better = similarity > score  # of equal ones the first stays
        row = jnp.where(better[:, None], found, row)
        return jnp.where(better, similarity, score), row

    return _Rule(start, add, lambda best: best[1])


def random_items(
    memory: Float[np.ndarray, "item dim"], places: Int[np.ndarray, "query"], *, seed: int
) -> Float[np.ndarray, "query dim"]:
    """The items that `losses.random_aggregate` gives to the queries at these places.

    Only these items of the memory are read.
    """
    return memory[np.asarray(_draw(jax.random.key(seed), places, len(memory)))]


@jax.jit
def _draw(key, places, count):
    draw = lambda place: jax.random.randint(jax.random.fold_in(key, place), (), 0, count)
    return jax.vmap(draw)(places)


def rows_that_fit(memory: Float[np.ndarray, "item dim"]) -> int:
    """Items that a device holds twice over in two thirds of its memory."""
    devices = jax.local_devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    if limit is None:  # the processor: its devices share one memory
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    row_bytes = memory.shape[1] * memory.dtype.itemsize
    return max(1, min(len(memory), int(limit) // (3 * row_bytes)))
