"""The training input stream: batches of paired features, a pure function of (seed, step)."""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import is_words

_ALIGNMENT = 64  # bytes; TensorFlow and JAX on CPU copy every buffer that starts elsewhere


def batches(
    feature_set: FeatureSet,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    labels: bool = False,
    prefetch: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, Any]]:
    """Batches of training examples for the steps start_step … start_step + num_steps − 1.

    Step s is batch s mod S of epoch ⌊s / S⌋, with S = ⌊N / batch_size⌋ over N training examples:
    the tail of an epoch is dropped and no batch holds an example twice. The order of an epoch
    depends on (seed, epoch) alone, so a stream started at step k continues an unbroken one exactly.
    Of a set with `captions` N counts items: an epoch has one example of each, drawn anew, so that
    captions of one item are never in one batch, where a loss would take them for different things.
    A tf.data pipeline over step numbers gathers ahead in its own thread.

    Args:
      feature_set: whose training examples are drawn.
      batch_size: examples of a batch over all processes.
      seed: of the order, 0 ≤ seed < 2⁶⁴.
      start_step: first step.
      num_steps: how many batches to give.
      labels: add `label`, int32 [batch], which unsupervised training has no use for.
      prefetch: batches made ahead.
      process_index: of `process_count` processes; each reads its contiguous part of every batch.
      process_count: a divisor of batch_size.

    Returns:
      Iterator over batches as `gather` makes them, read-only. What is float16 in the feature set
      stays so, half of what goes to the device, where the training step makes float32 of it.

    Raises:
      ValueError: a number does not fit the others; at the call, not at the first batch.
    """
    count = feature_set.items(feature_set.train)
    if not 1 <= batch_size <= count:
        what = "items with captions for training" if feature_set.captions else "training examples"
        raise ValueError(f"batch_size {batch_size} is not within 1 … {count} {what}")
    if not 0 <= process_index < process_count or batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} is not shared evenly by process {process_index} "
            f"of {process_count}"
        )
    if start_step < 0 or num_steps < 0 or prefetch < 0:
        raise ValueError(f"negative: {start_step=}, {num_steps=} or {prefetch=}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is not within 0 … 2⁶⁴ − 1")
    order = functools.lru_cache(maxsize=1)(_orders(feature_set, seed))
    share = batch_size // process_count

    def load(step: np.ndarray) -> list[np.ndarray]:
        epoch, place = divmod(int(step), count // batch_size)
        first = place * batch_size + process_index * share
        batch = gather(feature_set, order(epoch)[first : first + share], keep_float16=True)
        indices = batch["index"]
        extra = [feature_set.label[indices]] if labels else []
        return [*batch["features"].values(), *batch["present"].values(), *extra, indices]

    def named(arrays: tuple[np.ndarray, ...]) -> dict[str, Any]:
        names = feature_set.modalities
        features, present = arrays[: len(names)], arrays[len(names) : 2 * len(names)]
        return {
            "features": dict(zip(names, features, strict=True)),
            "present": dict(zip(names, present, strict=True)),
            **({"label": arrays[-2]} if labels else {}),
            "index": arrays[-1],
        }

    tf = _tensorflow()
    types = [tf.as_dtype(_type(x, keep_float16=True)) for x in feature_set.features.values()]
    types += [tf.bool] * len(types) + [tf.int32] * (1 + labels)
    dataset = tf.data.Dataset.range(start_step, start_step + num_steps)
    dataset = dataset.map(lambda step: tuple(tf.numpy_function(load, [step], types)))
    return map(named, dataset.prefetch(prefetch).as_numpy_iterator())


def _orders(feature_set: FeatureSet, seed: int) -> Callable[[int], np.ndarray]:
    """epoch -> the rows of the training examples, of each item one, in the order of that epoch."""
    train = np.flatnonzero(feature_set.train)
    if not feature_set.captions:
        return lambda epoch: train[epoch_order(len(train), seed, epoch)]
    group = feature_set.group[train]
    by_item = train[np.argsort(group, kind="stable")]
    _, starts, sizes = np.unique(np.sort(group), return_index=True, return_counts=True)

    def order(epoch: int) -> np.ndarray:
        items = epoch_order(len(starts), seed, epoch)
        key = np.array([seed, epoch + (1 << 63)], np.uint64)  # apart from the draws of the order
        drawn = np.random.Philox(key=key).random_raw(len(starts)) % sizes.astype(np.uint64)
        return by_item[(starts + drawn.astype(np.int64))[items]]

    return order


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A uniformly random permutation of 0 … count − 1 that depends on (seed, epoch) alone.

    The order of `count` draws of the Philox counter generator keyed by (seed, epoch), whose stream
    NumPy keeps fixed over versions and platforms. ≠ `tf.random.experimental.index_shuffle`, which
    knows only 256 permutations: epochs and seeds that agree modulo 256 get the same one.
    """
    key = np.array([seed, epoch], np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


def gather(
    feature_set: FeatureSet, indices: np.ndarray, *, keep_float16: bool = False
) -> dict[str, Any]:
    """The examples at `indices` as one batch.

    Args:
      feature_set: where to read.
      indices: integers [batch], each within 0 … N − 1; repeats are allowed.
      keep_float16: features that are float16 in the set stay so.

    Returns:
      `features`: modality -> float32 [batch, ...], int32 of words, zero where the modality is
      absent;
      `present`: modality -> bool [batch]; `index`: int32 [batch], the indices.

    Raises:
      TypeError: the indices are no integers (a mask: pass `np.flatnonzero(mask)`).
      IndexError: an index lies outside the set.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or (indices.dtype.kind not in "iu" and indices.size):
        raise TypeError(
            f"indices must be a vector of integers, not {indices.dtype} {indices.shape}"
        )
    indices = indices.astype(np.int64)
    outside = (indices < 0) | (indices >= len(feature_set.label))
    if outside.any():
        wrong = indices[np.argmax(outside)]
        raise IndexError(f"index {wrong} is outside the {len(feature_set.label)} examples")
    present = {m: feature_set.present[m][indices] for m in feature_set.modalities}
    features = {
        modality: _rows(array, indices, present[modality], _type(array, keep_float16=keep_float16))
        for modality, array in feature_set.features.items()
    }
    return {"features": features, "present": present, "index": indices.astype(np.int32)}


def _type(array: np.ndarray, *, keep_float16: bool) -> type:
    """Of a batch of these features."""
    if keep_float16 and array.dtype == np.float16:
        return np.float16
    return np.int32 if is_words(array) else np.float32


def _rows(array: np.ndarray, indices: np.ndarray, present: np.ndarray, dtype: type) -> np.ndarray:
    """Rows in memory that frameworks take over without a copy; absent rows are zero."""
    shape = (len(indices), *array.shape[1:])
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    out = buffer[start : start + size].view(dtype).reshape(shape)
    if array.dtype == dtype and array.flags.c_contiguous:
        # mode="raise" would go through a second buffer; `gather` has checked the indices.
        np.take(np.asarray(array), indices, axis=0, out=out, mode="clip")
        out[~present] = 0
    else:
        rows = np.asarray(array)[indices]
        rows[~present] = 0  # before the cast: what stands in absent rows may not fit
        out[...] = rows
    return out


def prefetch_to_device(
    iterator: Iterable[Any], place: Callable[[Any], Any], size: int = 2
) -> Iterator[Any]:
    """Yields place(batch) of each batch, in order, with `size` batches placed at any time.

    Placing is asynchronous in JAX, so the transfer of the next batches overlaps the step that
    works on the one just yielded, which counts among the `size`.

    Args:
      iterator: batches on the host.
      place: puts one batch on its device or devices, for instance `jax.device_put`.
      size: batches placed, ≥ 1; their memory is the price.

    Raises:
      ValueError: size is less than 1.
    """
    if size < 1:
        raise ValueError(f"size must be 1 or more, not {size}")
    iterator = iter(iterator)
    ready: collections.deque = collections.deque()
    for batch in iterator:
        ready.append(place(batch))
        if len(ready) == size:
            yield ready.popleft()
    yield from ready


def _tensorflow() -> Any:
    """TensorFlow, imported at first use and kept off the accelerators, which belong to JAX."""
    import tensorflow as tf

    # Too late where the caller has already started TensorFlow: then its choice of devices stands.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return tf
