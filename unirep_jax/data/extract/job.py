"""Encoding one modality: streamed, on several threads, and continued where it was interrupted."""

import collections
import csv
import dataclasses
import io
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unirep_jax.data.extract.encoders import Encoder, EncoderError
from unirep_jax.data.extract.manifest import Manifest
from unirep_jax.data.extract.media import MediaError, naming
from unirep_jax.progress_bar import Bar

DAMAGED = "damaged.csv"
_FIELDS = ("modality", "row", "value", "reason")
_BATCHES_AHEAD = 3  # prepared while one is encoded


@dataclasses.dataclass(frozen=True)
class Damage:
    """A file that could not be read, by the row of its example."""

    modality: str
    row: int
    value: str
    reason: str


def encode_modality(
    encoder: Encoder,
    manifest: Manifest,
    modality: str,
    column: str,
    file: Path,
    *,
    dtype: str = "float32",
    threads: int = 1,
    skip_damaged: bool = False,
) -> None:
    """Appends to `file`, an `.npy` array [example, ...], until every example has its row.

    Rows of absent and of damaged examples are zero. A batch is written when it is whole, so an
    interrupted call is continued by the same call, with the same bytes as an unbroken one.

    Args:
      encoder: of the modality.
      manifest: of all examples.
      modality, column: what is encoded, and where its files are named.
      file: new, or what an earlier call has left. damaged.csv of its folder's parent gets the
        damaged files of this modality.
      dtype: of the array.
      threads: that read and prepare files.
      skip_damaged: write down what cannot be read, and go on.

    Raises:
      MediaError: a file cannot be read, unless `skip_damaged`.
      EncoderError: the encoder gives other shapes, or what is not finite.
    """
    output = _Output(file, len(manifest), dtype)
    journal = Journal(file.parents[1] / DAMAGED)
    size, written = encoder.batch_size, output.rows_written()
    if written == len(manifest):
        return
    start = written // size * size
    journal.keep(lambda damage: damage.modality != modality or damage.row < start)
    output.truncate(start)
    values = itertools.islice(enumerate(manifest.values(column)), start, None)
    with (
        ThreadPoolExecutor(threads) as pool,
        Bar(modality, len(manifest), "items", done=start) as bar,
        output,
    ):
        prepare = preparation(encoder, manifest.root)
        for batch in _ahead(pool, prepare, values, size):
            good = _sort_out(batch, modality, journal, skip_damaged)
            rows = _encode(encoder, [item for _, item in good], modality) if good else None
            output.append(len(batch), [place for place, _ in good], rows)
            bar.update(len(batch))


def preparation(encoder: Encoder, root: Path) -> Callable[[str], Any]:
    """What one value of a manifest, a path relative to `root` or a text, is prepared by.

    What it gives raises MediaError, which names the file or the text.
    """

    def prepare(value: str) -> Any:
        if not value:
            return None
        if encoder.medium == "text":
            with naming(f"{value:.60}", "text"):
                return encoder.prepare(value)
        path = root / value
        with naming(path, encoder.medium):
            return encoder.prepare(path)

    return prepare


def _ahead(
    pool: ThreadPoolExecutor, prepare: Callable, values: Iterator[tuple[int, str]], size: int
) -> Iterator[list[tuple[int, str, Future]]]:
    """Batches of (row, value, what is prepared), some begun before the first is used."""
    waiting: collections.deque = collections.deque()
    try:
        while batch := list(itertools.islice(values, size)):
            waiting.append([(row, value, pool.submit(prepare, value)) for row, value in batch])
            if len(waiting) > _BATCHES_AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, _, future in itertools.chain.from_iterable(waiting):
            future.cancel()


def _sort_out(
    batch: list[tuple[int, str, Future]], modality: str, journal: "Journal", skip_damaged: bool
) -> list[tuple[int, Any]]:
    """(place in the batch, what is prepared) of those that are present and whole."""
    good, damaged = [], []
    for place, (row, value, future) in enumerate(batch):
        try:
            item = future.result()
        except MediaError as error:
            if not skip_damaged:
                raise
            damaged.append(Damage(modality, row, " ".join(value.split()), str(error)))
            continue
        if value:
            good.append((place, item))
    journal.add(damaged)
    return good


def _encode(encoder: Encoder, items: list[Any], modality: str) -> np.ndarray:
    rows = np.asarray(encoder.encode(items))
    if len(rows) != len(items) or rows.ndim < 2:
        expected = f"[{len(items)}, ...] for {len(items)} items"
        raise EncoderError(f"{modality}: the encoder gave {rows.shape}, not {expected}")
    if not np.isfinite(rows).all():
        raise EncoderError(f"{modality}: the encoder gave values that are not finite")
    return rows


class _Output:
    """An `.npy` file that grows by whole batches; the first one says its shape."""

    _stream: BinaryIO  # while it is entered

    def __init__(self, path: Path, count: int, dtype: str):
        self.path, self.count = path, count
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.shape: tuple[int, ...] | None = None
        self._empty = 0  # absent examples before the first that is there
        self._start = 0

    def rows_written(self) -> int:
        """Whole rows of an earlier call; also learns the shape of a row from its header."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as stream:
            try:
                np.lib.format.read_magic(stream)
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            except ValueError:  # ended within the header
                return 0
            if shape[0] != self.count or dtype != self.dtype:
                return 0
            self.shape, self._start = shape[1:], stream.tell()
        return (self.path.stat().st_size - self._start) // self._row_bytes()

    def _row_bytes(self) -> int:
        return int(np.prod(self.shape or ())) * self.dtype.itemsize

    def truncate(self, rows: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not rows:
            self.path.unlink(missing_ok=True)
            self.shape = None
            return
        with self.path.open("r+b") as stream:
            stream.truncate(self._start + rows * self._row_bytes())

    def __enter__(self) -> "_Output":
        self._stream = self.path.open("ab")
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None and self.shape is None:
            raise EncoderError(f"{self.path.stem}: no example has this modality")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def append(self, size: int, places: list[int], rows: np.ndarray | None) -> None:
        """A batch of `size` examples, of which those at `places` have the rows."""
        shape = self.shape
        if shape is None:
            if rows is None:
                self._empty += size
                return
            shape = self._begin(rows.shape[1:])
        if rows is not None and rows.shape[1:] != shape:
            raise EncoderError(
                f"{self.path.stem}: the encoder gave {rows.shape[1:]} after {shape}; every "
                "example has to have the same shape"
            )
        batch = np.zeros((size, *shape), self.dtype)
        if rows is not None:
            with np.errstate(over="ignore"):
                batch[places] = rows
            if not np.isfinite(batch).all():
                largest = np.abs(rows).max()
                raise EncoderError(f"{self.path.stem}: {largest:g} is beyond {self.dtype.name}")
        self._stream.write(batch.tobytes())
        self._stream.flush()

    def _begin(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.shape = tuple(shape)
        header = io.BytesIO()
        fields = {"descr": self.dtype.str, "fortran_order": False}
        np.lib.format.write_array_header_1_0(header, fields | {"shape": (self.count, *shape)})
        self._stream.write(header.getvalue())
        nothing = bytes(self._row_bytes())
        for _ in range(self._empty):
            self._stream.write(nothing)
        return self.shape


class Journal:
    """damaged.csv: what could not be read, written before the rows that leave it out."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> Iterator[Damage]:
        if not self.path.exists():
            return
        text = self.path.read_bytes().decode("utf-8", "ignore")
        whole = text[: text.rfind("\n") + 1]  # the last line may have been cut short
        for row in csv.DictReader(io.StringIO(whole, newline="")):
            yield Damage(row["modality"], int(row["row"]), row["value"], row["reason"])

    def add(self, damaged: list[Damage]) -> None:
        if not damaged:
            return
        fresh = not self.path.exists()
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream)
            if fresh:
                rows.writerow(_FIELDS)
            rows.writerows(dataclasses.astuple(damage) for damage in damaged)
            stream.flush()
            os.fsync(stream.fileno())

    def keep(self, wanted: Callable[[Damage], bool]) -> None:
        """Drops what an interrupted call wrote of rows that are encoded again."""
        kept = [damage for damage in self.read() if wanted(damage)]
        self.path.unlink(missing_ok=True)
        self.add(kept)
