"""Cross-modal retrieval: every direction between modalities, and one modality against the rest.

Queries are handled a tile at a time, so the matrix of all scores never exists. Ties count in
expectation (`unirep_jax.metrics.retrieval`): an embedding that has collapsed scores as chance.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unirep_jax import losses, metrics
from unirep_jax.metrics import Ranks
from unirep_jax.train.processes import is_first
from unirep_jax.train.progress import Work, progress_stream

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
    tile = max(min(TILE // len(items.item), len(queries.item)), 1)
    gallery = jax.tree.map(jnp.asarray, items.vectors)
    compute = jax.jit(score)
    ranked: list[_Ranked] = []
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[_Ranked]] = deque()
        for start in range(0, len(queries.item), tile):
            # The last tile is filled up with the last query: one shape, one compilation.
            rows = np.minimum(np.arange(start, start + tile), len(queries.item) - 1)
            scores = np.asarray(compute(tuple(v[rows] for v in queries.vectors), gallery))
            scores, rows = scores[: len(queries.item) - start], rows[: len(queries.item) - start]
            waiting.append(pool.submit(_rank, scores, _keep(queries, rows), items))
            while len(waiting) > THREADS or (waiting and start + tile >= len(queries.item)):
                ranked.append(waiting.popleft().result())
                advance(len(ranked[-1].precision))
    ranks = Ranks(*map(np.concatenate, zip(*(part.ranks for part in ranked), strict=True)))
    _, precision, of_class, sizes = zip(*ranked, strict=True)
    count, (relevant, alike) = len(items.item), np.concatenate(sizes, axis=1)
    tied = Ranks(np.zeros_like(relevant), count - relevant, relevant)
    for k in RECALLS:
        yield f"recall_at_{k}", metrics.recall_at(ranks, k), metrics.recall_at(tied, k)
    yield "median_rank", metrics.median_rank(ranks), metrics.median_rank(tied)
    yield "map", float(np.mean(np.concatenate(precision))), _random_precision(relevant, count)
    if alike.any():
        by_chance = _random_precision(alike[alike > 0], count)
        yield "class_map", float(np.mean(np.concatenate(of_class))), by_chance


class _Ranked(NamedTuple):
    """Of some queries: ranks, average precision of the item and, of those that have any alike, of
    the class; how many items are relevant, and how many of the class."""

    ranks: Ranks
    precision: Float[np.ndarray, "query"]
    of_class: Float[np.ndarray, "some"]
    sizes: Int[np.ndarray, "2 query"]


def _rank(scores: Float[np.ndarray, "query item"], queries: Rows, items: Rows) -> _Ranked:
    relevant = queries.item[:, None] == items.item[None]
    alike = (queries.label[:, None] == items.label[None]) & (items.label[None] >= 0)
    some, ascending, of_class = alike.any(1), np.sort(scores, axis=1), np.empty(0)
    if some.any():
        of_class = metrics.average_precision(scores[some], alike[some], ascending=ascending[some])
    return _Ranked(
        metrics.retrieval_ranks(scores, relevant),
        metrics.average_precision(scores, relevant, ascending=ascending),
        of_class,
        np.stack([relevant.sum(1), alike.sum(1)]),
    )


def _random_precision(relevant: Int[np.ndarray, "query"], items: int) -> float:
    """Mean average precision of a random order: that of equal scores, per number of relevant."""
    sizes, times = np.unique(relevant, return_counts=True)
    equal = np.zeros((1, items))
    each = [metrics.average_precision(equal, (np.arange(items) < n)[None])[0] for n in sizes]
    return float(np.average(each, weights=times))


def directions(
    embeddings: dict[str, Float[np.ndarray, "example dim"]], feature_set, *, captions: str = ""
) -> Iterator[dict[str, Any]]:
    """The fields of a Measurement for every search of the test split, with its chance beside.

    Every ordered pair of modalities by cosine and by volume (which does not tell v from −v); of
    three modalities or more, also each against the group of the others, by volume and by height.

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
    side = lambda modalities: _side(embeddings, feature_set, modalities, captions)
    counts = {source: len(side(source).item) for source in {s for s, _, _ in searches}}
    total = sum(counts[source] for source, _, _ in searches)
    progress = Work("retrieval", total, "queries", progress_stream(is_first()))
    try:
        for source, target, score in searches:
            queries, items = side(source), side(target)
            found = _keep(queries, np.isin(queries.item, items.item))
            progress.update(len(queries.item) - len(found.item))
            if not len(found.item):
                continue
            for metric, value, by_chance in search(found, items, score, progress.update):
                yield {"split": "all", "source": "+".join(source), "target": "+".join(target),
                       "metric": metric, "value": value, "chance": by_chance,
                       "num_examples": len(found.item), "selection": score.__name__}  # fmt: skip
    finally:
        progress.close()


def _side(embeddings, feature_set, modalities: Sequence[str], captions: str) -> Rows:
    """The test examples that have all of the modalities, once for each item."""
    test = ~feature_set.train
    for m in modalities:
        test = test & feature_set.present[m]
    item = feature_set.group if captions else np.arange(len(feature_set.label))
    side = Rows(tuple(np.asarray(embeddings[m]) for m in modalities), item, feature_set.label)
    side = _keep(side, test)
    if captions and captions not in modalities:
        return _keep(side, np.sort(np.unique(side.item, return_index=True)[1]))
    return side


def _keep(side: Rows, which: np.ndarray) -> Rows:
    return Rows(tuple(v[which] for v in side.vectors), side.item[which], side.label[which])
