"""Cross-modal retrieval: every direction between modalities, and one modality against the rest.

Queries are handled a tile at a time, so the matrix of all scores never exists. Ties count in
expectation (`unirep_jax.metrics.retrieval`): an embedding that has collapsed scores as chance.
"""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unirep_jax import losses, metrics
from unirep_jax.metrics import Ranks
from unirep_jax.progress_bar import Bar
from unirep_jax.train.processes import is_first

RECALLS = (1, 5, 10)
TILE = 1 << 22  # scores held at a time, by each thread
THREADS = min(os.cpu_count() or 1, 8)
# Of one modality, or one array for each of a group.
Vectors = tuple[Float[Array | np.ndarray, "row dim"], ...]


class Rows(NamedTuple):
    """One side of a search.

    vectors: [row, dim] of a modality, or of each modality of a group; item: what each row is a view
    of; label: its class, −1 = unknown.
    """

    vectors: Vectors
    item: Int[np.ndarray, "row"]
    label: Int[np.ndarray, "row"]


def cosine(queries: Vectors, items: Vectors) -> Float[Array, "query item"]:
    return jnp.einsum("qd,id->qi", queries[0], items[0], precision="highest")


def volume(queries: Vectors, items: Vectors) -> Float[Array, "query item"]:
    """−Vol of one vector with a group; either side may be the group."""
    return -_volumes(queries, items, height=False)


def height(queries: Vectors, items: Vectors) -> Float[Array, "query item"]:
    """−Vol/base: minus the sine of the angle between the vector and the span of the group."""
    return -_volumes(queries, items, height=True)


def _volumes(queries: Vectors, items: Vectors, *, height: bool):
    if len(queries) > 1:
        return losses.volume_matrix(items[0], *queries, height=height).T
    return losses.volume_matrix(queries[0], *items, height=height)


def search(
    queries: Rows,
    items: Rows,
    score: Callable[[Vectors, Vectors], Array],
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[str, float, float]]:
    """Recalls, median rank and mean average precision of a search, next to chance.

    Args:
      queries: every one has a relevant row among the items, that is, one of the same item.
      items: the gallery.
      score: [query, item] from the vectors of both, higher = better match.
      advance: is told how many more queries are done.

    Yields:
      Metric (`recall_at_1`, ..., `median_rank`, `map`, and `class_map`, for which the items of the
      query's class are relevant), its value, and its expectation when the order is random.
    """
    yield from search_parts([(queries, items)], score, advance)


def search_parts(
    parts: Sequence[tuple[Rows, Rows]],
    score: Callable[[Vectors, Vectors], Array],
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[str, float, float]]:
    """The same of the queries of all parts, each of which has a gallery of its own."""
    if not parts:
        return
    found = [_ranked(queries, items, score, advance) for queries, items in parts]
    ranks = Ranks(*map(np.concatenate, zip(*(f.ranks for f in found), strict=True)))
    tied = Ranks(*map(np.concatenate, zip(*(f.tied for f in found), strict=True)))
    for k in RECALLS:
        yield f"recall_at_{k}", metrics.recall_at(ranks, k), metrics.recall_at(tied, k)
    yield "median_rank", metrics.median_rank(ranks), metrics.median_rank(tied)
    for name, value, chance in (
        ("map", [f.precision for f in found], [f.precision_by_chance for f in found]),
        ("class_map", [f.of_class for f in found], [f.class_by_chance for f in found]),
    ):
        values, chances = np.concatenate(value), np.concatenate(chance)
        if len(values):
            yield name, float(np.mean(values)), float(np.mean(chances))


class _Ranked(NamedTuple):
    """By query: ranks in the order by score and in one of equal scores, and average precisions,
    of the queries that have the class of some item also by class."""

    ranks: Ranks
    tied: Ranks
    precision: np.ndarray
    precision_by_chance: np.ndarray
    of_class: np.ndarray
    class_by_chance: np.ndarray


def _ranked(
    queries: Rows,
    items: Rows,
    score: Callable[[Vectors, Vectors], Array],
    advance: Callable[[int], None],
) -> _Ranked:
    tile = max(min(TILE // len(items.item), len(queries.item)), 1)
    gallery = jax.tree.map(jnp.asarray, items.vectors)
    compute = jax.jit(score)
    tiles: list[_Tile] = []
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[_Tile]] = deque()
        for start in range(0, len(queries.item), tile):
            # The last tile is filled up with the last query: one shape, one compilation.
            rows = np.minimum(np.arange(start, start + tile), len(queries.item) - 1)
            scores = np.asarray(compute(tuple(v[rows] for v in queries.vectors), gallery))
            scores, rows = scores[: len(queries.item) - start], rows[: len(queries.item) - start]
            waiting.append(pool.submit(_rank, scores, _keep(queries, rows), items))
            while len(waiting) > THREADS or (waiting and start + tile >= len(queries.item)):
                tiles.append(waiting.popleft().result())
                advance(len(tiles[-1].precision))
    ranks, precision, of_class, sizes = zip(*tiles, strict=True)
    count, (relevant, alike) = len(items.item), np.concatenate(sizes, axis=1)
    return _Ranked(
        Ranks(*map(np.concatenate, zip(*ranks, strict=True))),
        Ranks(np.zeros_like(relevant), count - relevant, relevant),
        np.concatenate(precision),
        _random_precision(relevant, count),
        np.concatenate(of_class),
        _random_precision(alike[alike > 0], count),
    )


class _Tile(NamedTuple):
    """Of some queries: ranks, average precision of the item and, of those that have any alike, of
    the class; how many items are relevant, and how many of the class."""

    ranks: Ranks
    precision: Float[np.ndarray, "query"]
    of_class: Float[np.ndarray, "some"]
    sizes: Int[np.ndarray, "2 query"]


def _rank(scores: Float[np.ndarray, "query item"], queries: Rows, items: Rows) -> _Tile:
    relevant = queries.item[:, None] == items.item[None]
    alike = (queries.label[:, None] == items.label[None]) & (items.label[None] >= 0)
    some, ascending, of_class = alike.any(1), np.sort(scores, axis=1), np.empty(0)
    if some.any():
        of_class = metrics.average_precision(scores[some], alike[some], ascending=ascending[some])
    return _Tile(
        metrics.retrieval_ranks(scores, relevant),
        metrics.average_precision(scores, relevant, ascending=ascending),
        of_class,
        np.stack([relevant.sum(1), alike.sum(1)]),
    )


def _random_precision(relevant: Int[np.ndarray, "query"], items: int) -> Float[np.ndarray, "query"]:
    """Average precision of a random order: that of equal scores, by number of relevant items."""
    sizes, place = np.unique(relevant, return_inverse=True)
    equal = np.zeros((1, items))
    each = [metrics.average_precision(equal, (np.arange(items) < n)[None])[0] for n in sizes]
    return np.array(each, float)[place]


def directions(
    embeddings: dict[str, Float[np.ndarray, "example dim"]], feature_set, *, captions: str = ""
) -> Iterator[dict[str, Any]]:
    """The fields of a Measurement for every search of the test split, with its chance beside.

    Every ordered pair of modalities by cosine and by volume (which does not tell v from −v); of
    three modalities or more, also each against the group of the others, by volume and by height. An
    example that lacks members of its group is searched for, or searches, among groups of the same
    members: volumes of unlike numbers of vectors say nothing about one another.

    Args:
      embeddings: modality -> unit vectors of every example of the feature set.
      feature_set: labels, test split, which modalities are present.
      captions: a modality of which an item has several rows, equal in `feature_set.group`; of the
        other modalities the first row of each item counts.
    """
    names = tuple(embeddings)
    pairs = list(itertools.permutations(names, 2))
    Search = tuple[tuple[str, ...], tuple[str, ...], Callable]
    searches: list[Search] = [((s,), (t,), score) for score in (cosine, volume) for s, t in pairs]
    if len(names) > 2:
        groups = [((one,), tuple(m for m in names if m != one)) for one in names]
        for score in (volume, height):
            searches += [(s, t, score) for pair in groups for s, t in (pair, pair[::-1])]
    test = ~feature_set.train
    absent = {m for m in names if not (test & feature_set.present[m]).any()}
    searches = [s for s in searches if not absent & {*s[0], *s[1]}]
    parts_of = partial(_parts, embeddings, feature_set, captions)
    size = lambda parts: sum(len(queries.item) for queries, _ in parts)
    total = sum(size(parts_of(source, target)) for source, target, _ in searches)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar("retrieval", total, "queries")) if is_first() else None
        advance = bar.update if bar else lambda _: None
        for source, target, score in searches:
            parts = parts_of(source, target)
            for metric, value, by_chance in search_parts(parts, score, advance):
                yield {
                    "split": "all",
                    "source": "+".join(source),
                    "target": "+".join(target),
                    "metric": metric,
                    "value": value,
                    "chance": by_chance,
                    "num_examples": size(parts),
                    "selection": score.__name__,
                }


def _parts(
    embeddings, feature_set, captions: str, source: Sequence[str], target: Sequence[str]
) -> list[tuple[Rows, Rows]]:
    """Queries and gallery of each composition of the two sides that some queries have."""
    parts = []
    for one, other in _compositions(source, target):
        queries, items = (
            _side(embeddings, feature_set, m, captions, of=whole)
            for m, whole in ((one, source), (other, target))
        )
        queries = _keep(queries, np.isin(queries.item, items.item))
        if len(queries.item):
            parts.append((queries, items))
    return parts


def _compositions(source: Sequence[str], target: Sequence[str]) -> Iterator[tuple]:
    """The members that both sides may have, those that have all first."""
    sizes = lambda side: range(len(side), 0, -1)
    subsets = lambda side: [c for n in sizes(side) for c in itertools.combinations(side, n)]
    yield from itertools.product(subsets(source), subsets(target))


def _side(
    embeddings, feature_set, modalities: Sequence[str], captions: str, *, of: Sequence[str]
) -> Rows:
    """The test examples that have these modalities `of` a group and no other, once an item."""
    test = ~feature_set.train
    for m in of:
        test = test & (feature_set.present[m] == (m in modalities))
    item = feature_set.group if captions else np.arange(len(feature_set.label))
    side = Rows(tuple(np.asarray(embeddings[m]) for m in modalities), item, feature_set.label)
    side = _keep(side, test)
    if captions and captions not in modalities:
        return _keep(side, np.sort(np.unique(side.item, return_index=True)[1]))
    return side


def _keep(side: Rows, which: np.ndarray) -> Rows:
    return Rows(tuple(v[which] for v in side.vectors), side.item[which], side.label[which])
