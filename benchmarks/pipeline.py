"""Examples a second of the input pipeline at MICU's shapes, against what a training step takes.

    python benchmarks/pipeline.py [--examples=1600] [--batches=60] [--step_ms=2200]

Batches of 80 from memory-mapped files: audio [10, 128], video [10, 7, 7, 512], text [10, 768], 83
MB in all. A reader takes them as fast as they come, with the files in the memory of the system
(warm) and, where it lets them be dropped, not (cold). A step that takes longer than a batch never
waits. --step_ms is such a step, as benchmarks/micu_step.py prints it.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPES = {"audio": (10, 128), "video": (10, 7, 7, 512), "text": (10, 768)}
BATCH = 80


def write_features(folder: Path, examples: int, dtype: str) -> None:
    """Random features, a file for each modality."""
    from unirep_jax.data.mapped import chunks

    rng = np.random.default_rng(0)
    for m, shape in SHAPES.items():
        path = folder / f"{m}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (examples, *shape))
        for rows in chunks(examples, array[0].nbytes):
            array[rows] = rng.standard_normal(array[rows].shape, np.float32)
        array.flush()


def mapped_features(folder: Path):
    """The files as a feature set, unread: `load_features` looks at every value first."""
    from unirep_jax.data import FeatureSet

    arrays = {m: np.load(folder / f"{m}.npy", mmap_mode="r") for m in SHAPES}
    count = len(arrays["audio"])
    return FeatureSet(
        name="random",
        features=arrays,
        label=np.zeros(count, np.int32),
        train=np.ones(count, bool),
        present={m: np.ones(count, bool) for m in SHAPES},
        group=np.arange(count, dtype=np.int32),
        class_names=("0",),
    )


def drop_from_memory(folder: Path) -> bool:
    """Asks the system to forget the files, none of which may be mapped; whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def measure(folder: Path, count: int) -> dict[str, float]:
    """Milliseconds between batches, and examples a second, after the first batch."""
    from unirep_jax.data import batches

    stream = batches(
        mapped_features(folder), batch_size=BATCH, seed=0, start_step=0, num_steps=count + 1
    )
    next(stream)
    times = [time.perf_counter()]
    for _ in stream:
        times.append(time.perf_counter())
    between = np.diff(times)
    return {
        "median_ms": round(1000 * statistics.median(between), 1),
        "mean_ms": round(1000 * float(between.mean()), 1),
        "examples_per_s": round(BATCH * count / (times[-1] - times[0])),
    }


def compare(examples: int, count: int, dtype: str, step_ms: float | None) -> dict:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folder = Path(scratch)
        write_features(folder, examples, dtype)
        row = {"dtype": dtype, "examples": examples}
        if drop_from_memory(folder):  # no more batches than the set has: the second time it is warm
            row["cold"] = measure(folder, min(count, examples // BATCH - 1))
        measure(folder, examples // BATCH - 1)
        row["warm"] = measure(folder, count)
    if step_ms:
        row["step_over_batch"] = round(step_ms / row["warm"]["mean_ms"], 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=1600)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--step_ms", type=float)
    options = parser.parse_args()
    for dtype in ("float32", "float16"):
        print(json.dumps(compare(options.examples, options.batches, dtype, options.step_ms)))


if __name__ == "__main__":
    main()
