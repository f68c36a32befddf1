"""Finished shards of a job in a folder beside its result, with the settings they depend on."""

import fcntl
import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.banks import Bank
from unirep_jax.data.features import FeatureFileError
from unirep_jax.data.mapped import replace_file, write_file

FORMAT = "unirep_jax aggregation 1"
_SAMPLE_BYTES = 1 << 20


def fingerprint(bank: Bank) -> str:
    """Tells banks apart by shape, first and last MiB and, where it is known, the hash of it all."""
    array = bank.embeddings
    rows = max(1, _SAMPLE_BYTES // (array.shape[1] * array.dtype.itemsize))
    digest = hashlib.sha256(f"{array.shape} {array.dtype} {bank.sha256}".encode())
    for part in (array[:rows], array[-rows:]):
        digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()


class Parts:
    """The shards of a job, in a folder that keeps the settings they depend on.

    Args:
      folder: where they are, or will be after `make`.
      settings: with `count`, `dim`, `dtype` and `shard_rows`. None is for what may be as the folder
        has it.
      defaults: of settings that are None, where there is no folder.

    Raises:
      FeatureFileError: the folder is of other settings, which are named, or of no job.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], defaults: dict[str, Any]):
        self.folder = folder
        self._wanted, self._defaults = {"format": FORMAT} | settings, defaults
        self._settle()

    def make(self) -> None:
        """Makes the folder, unless it is there; then the settings are those it has."""
        if not self.folder.exists():
            self._make()
        self._settle()

    def _make(self) -> None:
        # A whole folder at once: another process may make the same one.
        beside = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}")
        beside.mkdir()
        text = json.dumps(self.settings, indent=2) + "\n"
        write_file(beside / "settings.json", lambda stream: stream.write(text.encode()))
        try:
            beside.rename(self.folder)
        except OSError:
            shutil.rmtree(beside)
            if not self.folder.is_dir():
                raise

    def _settle(self) -> None:
        chosen = {k: v for k, v in self._wanted.items() if v is not None}
        self.settings = self._read() if self.folder.exists() else self._defaults | chosen
        for key, value in chosen.items():
            if self.settings.get(key) != value:
                expected = f"{self.settings.get(key)!r}, with which its shards were made"
                found = f"{value!r} (remove the folder to start again)"
                raise FeatureFileError(self.folder, key, expected, found)
        self.count, self.dim = self.settings["count"], self.settings["dim"]
        self.dtype, self.shard_rows = np.dtype(self.settings["dtype"]), self.settings["shard_rows"]
        self.shards = -(-self.count // self.shard_rows)

    def _read(self) -> dict[str, Any]:
        path = self.folder / "settings.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            found = f"{type(error).__name__}: {error}"
            raise FeatureFileError(path, None, "the settings of a job", found) from error

    def rows(self, shard: int) -> slice:
        first = shard * self.shard_rows
        return slice(first, min(first + self.shard_rows, self.count))

    def complete(self, shard: int) -> bool:
        """Whether the shard is on disk, whole."""
        return self._file(shard).exists()  # it got this name when it was

    def write(self, shard: int, rows: np.ndarray) -> None:
        save = lambda stream: np.save(stream, rows.astype(self.dtype), allow_pickle=False)
        replace_file(self._file(shard), save)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows of all shards in their order, memory-mapped."""
        for shard in range(self.shards):
            path, rows = self._file(shard), self.rows(shard)
            try:
                block = np.load(path, mmap_mode="r", allow_pickle=False)
            except Exception as error:  # damaged bytes raise of every kind
                raise FeatureFileError(path, None, "a finished shard", str(error)) from error
            expected = (rows.stop - rows.start, self.dim)
            if block.shape != expected or block.dtype != self.dtype:
                found = f"{block.dtype} {block.shape}"
                raise FeatureFileError(path, None, f"{self.dtype} {expected}", found)
            yield block

    def assemble(self, write: Callable[[Iterator[np.ndarray]], None]) -> bool:
        """Calls `write(self.blocks())`, removes the folder; False if another process does it."""
        try:
            lock = (self.folder / "lock").open("w")
        except FileNotFoundError:
            return False
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if not self.folder.exists():  # it was removed while the lock was opened
                return False
            write(self.blocks())
            shutil.rmtree(self.folder)
        return True

    def _file(self, shard: int) -> Path:
        return self.folder / f"{shard:06d}.npy"
