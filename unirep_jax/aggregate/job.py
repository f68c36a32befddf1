"""The job: checks, estimate, shards one by one, and the bank at the end."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.aggregate.devices import Aggregator, random_items, rows_that_fit
from unirep_jax.aggregate.estimate import estimate
from unirep_jax.aggregate.parts import Parts, fingerprint
from unirep_jax.data.banks import Bank, open_bank, write_bank
from unirep_jax.data.features import FeatureFileError
from unirep_jax.progress_bar import Bar
from unirep_jax.train.signals import Interrupted, Noted

CONSISTENCY = ("softmax", "argmax", "random")


@dataclasses.dataclass(frozen=True)
class Job:
    """Settings of an aggregation job.

    queries, memory: banks of unit vectors; out: the bank that is made, in the queries' precision.
    consistency: eq. 2 ("softmax"), the most similar item ("argmax") or any item ("random").
    temperature: of "softmax". seed: of "random".
    shard_rows: queries of a shard, which is what an interruption loses at most.
    memory_rows: items on a device at a time; 0 takes as many as fit. memory_block: items handled
    at a time. process_index, process_count: shards i, i + n, i + 2n, … are computed here.
    """

    queries: Path
    memory: Path
    out: Path
    consistency: str = "softmax"
    temperature: float = 0.01
    seed: int = 0
    shard_rows: int = 65536
    memory_rows: int = 0
    memory_block: int = 2048
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        if self.consistency not in CONSISTENCY:
            raise ValueError(f"consistency={self.consistency!r} is none of {CONSISTENCY}")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} is not positive")
        for name in ("shard_rows", "memory_block", "process_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is less than 1")
        if self.memory_rows < 0:
            raise ValueError(f"memory_rows={self.memory_rows} is negative")
        if not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"process_index={self.process_index} is not within 0 … {self.process_count - 1}"
            )
        if self.out.suffix != ".npy" or not self.out.parent.is_dir():
            raise ValueError(f"out={self.out} is no .npy file in a folder that exists")
        if self.out.with_suffix("") in (self.queries.with_suffix(""), self.memory.with_suffix("")):
            raise ValueError(f"out={self.out} has the side file of another bank of the job")

    @property
    def parts(self) -> Path:
        return self.out.with_name(f"{self.out.name}.parts")


def run(job: Job, *, estimate_only: bool = False, report: Callable[[str], None] = print) -> None:
    """Computes what is not on disk yet, and the bank once all shards are.

    A job that was interrupted continues after its last complete shard; its result is bit for bit
    that of an unbroken run on the same devices.

    Args:
      job: what to do.
      estimate_only: only report sizes, arithmetic and time.
      report: where lines of text go.

    Raises:
      FeatureFileError: a bank is not as `open_bank` wants it or not of unit vectors, the banks are
        of different dimensions, the result exists and is another job's, or so is the folder of
        finished shards.
      Interrupted: after SIGINT, SIGTERM or SIGHUP, when the shard under way is on disk.
    """
    queries, memory = _open(job.queries), _open(job.memory)
    if queries.embeddings.shape[1] != memory.embeddings.shape[1]:
        expected = f"{queries.embeddings.shape[1]} dimensions as in {job.queries}"
        raise FeatureFileError(job.memory, None, expected, str(memory.embeddings.shape[1]))
    content = _content(job, queries, memory)
    if job.out.exists() and not job.parts.exists():
        _refuse_another(job, _about(job, queries, memory, content))
        report(f"{job.out} is complete")
        return
    defaults = {"memory_rows": rows_that_fit(memory.embeddings)}
    parts = Parts(job.parts, content | _shape(job, queries), defaults)
    if not estimate_only:
        parts.make()
    own = range(job.process_index, parts.shards, job.process_count)
    todo = [shard for shard in own if not parts.complete(shard)]
    aggregator = _aggregator(job, memory, parts)
    report(f"result   {job.out}, from {queries.name} over {memory.name}")
    report(estimate(queries.embeddings, memory.embeddings, parts, own, todo, aggregator))
    if estimate_only:
        return
    compute = partial(_shard, job, queries, memory, aggregator)
    _run_shards(parts, own, todo, compute)
    missing = sum(not parts.complete(shard) for shard in range(parts.shards))
    about = _about(job, queries, memory, content)
    write = lambda blocks: write_bank(job.out, blocks, name=job.out.stem, about=about, unit=False)
    if missing and job.parts.exists():
        report(f"{missing} of {parts.shards} shards are left to other processes")
    elif not missing and parts.assemble(write):
        report(f"{job.out} is complete")
    else:
        report(f"{job.out} is put together by another process")


# -- what the job is ---------------------------------------------------------------------------


def _open(path: Path) -> Bank:
    bank = open_bank(path)
    if not bank.unit:
        raise FeatureFileError(path, None, "a bank of unit vectors", "unit: false")
    return bank


def _content(job: Job, queries: Bank, memory: Bank) -> dict[str, Any]:
    """Everything that determines the result, to tell it from others."""
    content: dict[str, Any] = {
        "queries": fingerprint(queries),
        "memory": fingerprint(memory),
        "consistency": job.consistency,
    }
    if job.consistency == "softmax":
        content["temperature"] = job.temperature
    elif job.consistency == "random":
        content["seed"] = job.seed
    return content


def _shape(job: Job, queries: Bank) -> dict[str, Any]:
    """What shards must have in common, with the last bits of their values."""
    count, dim = queries.embeddings.shape
    return {
        "count": count,
        "dim": dim,
        "dtype": str(queries.embeddings.dtype),
        "shard_rows": min(job.shard_rows, count),
        "memory_rows": job.memory_rows or None,
        "memory_block": job.memory_block,
    }


def _about(job: Job, queries: Bank, memory: Bank, content: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    detail = f", temperature {job.temperature:g}" if job.consistency == "softmax" else ""
    return f"{job.consistency} of {memory.name} for {queries.name}{detail}; job {digest[:16]}"


def _refuse_another(job: Job, about: str) -> None:
    found = open_bank(job.out).about
    if found.rpartition("; job ")[2] != about.rpartition("; job ")[2]:
        expected = f"no file, or this result ({about})"
        raise FeatureFileError(job.out, None, expected, repr(found) or "another bank")


# -- the work ----------------------------------------------------------------------------------


def _aggregator(job: Job, memory: Bank, parts: Parts) -> Aggregator | None:
    """None where no arithmetic is needed."""
    if job.consistency == "random":
        return None
    return Aggregator(
        memory.embeddings,
        consistency=job.consistency,
        temperature=job.temperature,
        query_rows=parts.shard_rows,
        memory_rows=parts.settings["memory_rows"],
        memory_block=parts.settings["memory_block"],
    )


def _shard(
    job: Job, queries: Bank, memory: Bank, aggregator: Aggregator | None, rows: slice
) -> np.ndarray:
    if aggregator is None:
        places = np.arange(rows.start, rows.stop)
        return random_items(memory.embeddings, places, seed=job.seed)
    return aggregator(queries.embeddings[rows])


def _run_shards(
    parts: Parts, own: range, todo: Sequence[int], compute: Callable[[slice], np.ndarray]
) -> None:
    counts = {shard: parts.rows(shard).stop - parts.rows(shard).start for shard in own}
    total, left = sum(counts.values()), sum(counts[shard] for shard in todo)
    bar = Bar("aggregate", total, "queries", done=total - left)
    with bar, Noted("finishing this shard") as signals:
        for done, shard in enumerate(todo, len(own) - len(todo)):
            if signals.number:
                raise Interrupted(signals.number, f"after {done} of {len(own)} shards")
            parts.write(shard, compute(parts.rows(shard)))
            bar.update(counts[shard])
