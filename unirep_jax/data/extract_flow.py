"""Command line: python -m unirep_jax.data.extract_flow --path=FILE --key=KEY --out=FOLDER.

Optical flow of every clip of a data set, as a modality to add to it:

    python -m unirep_jax.data.extract_flow --path=utd_mhad.npz --key=depth --out=utd_flow
    python -m unirep_jax.main --config=configs/oscmg.py:utd_mhad --config.data.path=utd_mhad.npz \\
      --config.data.flow=utd_flow

The same command continues an interrupted one; docs/features.md says more.
"""

import argparse
import collections
import hashlib
import io
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from unirep_jax.data.archive import Archive, FeatureFileError
from unirep_jax.data.files import user_path
from unirep_jax.data.mapped import write_file
from unirep_jax.data.optical_flow import flow_histograms, tv_l1_flow
from unirep_jax.progress_bar import counted

FORMS = ("histograms", "maps")
_CLIPS_AHEAD = 4  # for each process, sent before the first is back


def extract(
    path: str | Path,
    key: str,
    out: str | Path,
    *,
    form: str = "histograms",
    cells: int = 4,
    orientations: int = 8,
    processes: int = 1,
) -> Path:
    """Writes the flow of all clips to `out`/modality/flow.npy, which appears when it is whole.

    Clips that are absent (present/NAME of the key modality/NAME) have zeros, and are marked in
    `out`/present/flow.npy. What an interrupted call has done lies beside the file; a call with the
    same settings and clips goes on after its last whole clip.

    Args:
      path: an `.npz` file or a folder of `.npy` files.
      key: of the clips in it, numbers [example, time, height, width] or with a channel axis.
      out: a folder, new or not; that of a feature set gets the modality for good.
      form: "histograms" [example, time, cells · cells · orientations], or "maps" [example, time,
        height, width, 2] as a network on flow takes them.
      cells, orientations: of `flow_histograms`.
      processes: that share the clips.

    Returns:
      The file.

    Raises:
      FeatureFileError: the clips are not that; a clip that has no flow is named by its row.
      FileExistsError: the file is there.
      ValueError: no such form.
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r} is none of {', '.join(FORMS)}")
    path, out = user_path(path), user_path(out)
    file = out / "modality" / "flow.npy"
    if file.exists():
        raise FileExistsError(f"{file} is there; remove it or choose another folder")
    histograms = {"cells": cells, "orientations": orientations} if form == "histograms" else None
    compute = partial(_flow, histograms=histograms, path=path, key=key)
    with Archive(path) as archive:
        clips = archive.read(key, "number", memory_map=True)
        if clips.ndim not in (4, 5) or 0 in clips.shape:
            expected = "[example, time, height, width] or with a channel axis"
            raise FeatureFileError(path, key, expected, f"shape {clips.shape}")
        present_key = key.replace("modality/", "present/", 1)
        present = (
            archive.find(present_key, "boolean", (len(clips),)) if present_key != key else None
        )
    present = np.ones(len(clips), bool) if present is None else present
    # Of one clip of nothing, which also says at once what cannot be.
    shape = np.asarray(compute((0, np.zeros_like(clips[0])))).shape
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".flow.npy.{_digest(clips, present, histograms)}.incomplete")
    _append(beside, compute, clips, present, shape, processes)
    if not present.all():
        marks = out / "present" / "flow.npy"
        marks.parent.mkdir(exist_ok=True)
        marks.unlink(missing_ok=True)  # of a call that ended before its last line
        write_file(marks, lambda stream: np.save(stream, present, allow_pickle=False))
    beside.replace(file)
    return file


def _flow(
    row_clip: tuple[int, np.ndarray | None], *, histograms: dict | None, path: str | Path, key: str
) -> np.ndarray | None:
    """The flow of a row's clip in its form; None of one that is absent."""
    row, clip = row_clip
    if clip is None:
        return None
    try:
        flow = tv_l1_flow(clip)
        return flow if histograms is None else flow_histograms(flow, **histograms)
    except ValueError as error:
        raise FeatureFileError(path, key, "clips that have flow", f"in row {row} {error}") from None


def _append(
    file: Path,
    compute: Callable,
    clips: np.ndarray,
    present: np.ndarray,
    shape: tuple[int, ...],
    processes: int,
) -> None:
    """Fills an `.npy` file from its first row that is not there, or not whole, to the last."""
    header = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": (len(clips), *shape)}
    np.lib.format.write_array_header_1_0(header, fields)
    start, row_bytes = header.tell(), 4 * int(np.prod(shape))
    with file.open("ab") as stream:
        done = max(0, stream.tell() - start) // row_bytes
        if stream.tell() < start:
            stream.truncate(0)
            stream.write(header.getvalue())
        else:
            stream.truncate(start + done * row_bytes)
        rows = ((r, clips[r] if present[r] else None) for r in range(done, len(clips)))
        flows = _in_order(compute, rows, processes)
        for flow in counted(flows, "flow", len(clips), "clips", done=done):
            flow = np.zeros(shape) if flow is None else flow
            stream.write(np.ascontiguousarray(flow, "<f4").tobytes())
        stream.flush()
        os.fsync(stream.fileno())


def _in_order(compute: Callable, items: Iterable, processes: int) -> Iterator:
    """`map`, by several processes, of which no more is held than they need."""
    if processes == 1:
        yield from map(compute, items)
        return
    # Forked processes would inherit the locks of whatever threads the caller has.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    waiting: collections.deque = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(compute, item))
            if len(waiting) > _CLIPS_AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _digest(clips: np.ndarray, present: np.ndarray, histograms: dict | None) -> str:
    """Tells unfinished files apart by their settings and clips, of which the ends are looked at."""
    said = f"{clips.shape} {clips.dtype} {histograms}".encode()
    ends = clips[0].tobytes() + clips[-1].tobytes()
    return hashlib.sha256(said + present.tobytes() + ends).hexdigest()[:8]


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.data.extract_flow", description=__doc__.splitlines()[2]
    )
    parser.add_argument("--path", required=True, help="an .npz file or a folder of .npy files")
    parser.add_argument(
        "--key", required=True, help="of the clips in it: depth, modality/video ..."
    )
    parser.add_argument("--out", required=True, help="a folder, which gets modality/flow.npy")
    parser.add_argument("--form", default="histograms", choices=FORMS)
    parser.add_argument("--cells", type=int, default=4, help="of histograms, along each side")
    parser.add_argument("--orientations", type=int, default=8, help="of histograms")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="that share the clips"
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = vars(arguments_parser().parse_args(arguments))
    try:
        file = extract(**options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to continue")
    found = np.load(file, mmap_mode="r", allow_pickle=False)
    print(f"{file}: flow {list(found.shape[1:])} of {len(found)} clips")


if __name__ == "__main__":
    main()
