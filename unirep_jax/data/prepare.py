"""Command line: python -m unirep_jax.data.prepare NAME --manual_dir=DIR --out=FOLDER.

Published features, converted once into a folder of `.npy` files that training maps into memory:

    python -m unirep_jax.data.prepare ave --manual_dir=~/AVE --out=features/ave
    python -m unirep_jax.main --config=configs/oscmg.py:features --config.data.path=features/ave

docs/data_sets.md has what each data set needs, and how large it becomes.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data import builders, tuxpaint
from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.builders import DataFolderError, FeatureBuilder, OpenSetCounts
from unirep_jax.data.builders._features import place_of
from unirep_jax.data.files import user_path
from unirep_jax.data.mapped import write_file
from unirep_jax.data.prepared import EVENTS, EXAMPLES, RECIPE
from unirep_jax.data.recipe import check_recipe
from unirep_jax.progress_bar import counted

BUILDERS: dict[str, type[FeatureBuilder]] = {
    cls.name: cls
    for cls in map(vars(builders).get, builders.__all__)
    if isinstance(cls, type) and issubclass(cls, FeatureBuilder) and cls is not FeatureBuilder
}
DTYPES = ("float32", "float16")
_MOST_ERRORS = 100  # damaged features, after which a conversion stops


def convert(
    builder: FeatureBuilder,
    manual_dir: str | Path,
    out: str | Path,
    *,
    part: str = "",
    dtype: str = "float32",
    steps: int = 0,
    modalities: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes the features of a builder as a folder, all of it or nothing.

    Missing files and wrong numbers of examples are found before the first feature is read. What is
    written lies beside `out` until it is whole; what an earlier call left there is removed. A
    folder that the same call has made before is left as it is.

    Args:
      builder: one of `BUILDERS`, in one of its configurations.
      manual_dir: where the published files are.
      out: a new folder.
      part: which splits are for training and which for the test, of the builder's PARTS; by
        default the first. A split may be in both, and is then written twice.
      dtype: of the features, float32 or float16.
      steps: of features of the user's own, evenly spaced time steps that sequences get; 0 for
        sequences of one length.
      modalities: of features of the user's own, those besides text; () for all that are there.

    Returns:
      What recipe.json then holds: the settings, and the numbers of rows.

    Raises:
      DataFolderError: files are missing, the numbers are not the published ones, or several
        features are wrong.
      FeatureFileError: a feature is damaged, of another shape, not finite, or beyond `dtype`.
      FileExistsError: `out` was made differently.
      ValueError: no such part or dtype, or the set has nothing to choose.
    """
    manual_dir, out = user_path(manual_dir), user_path(out)
    part = part or next(iter(builder.PARTS))
    if part not in builder.PARTS or dtype not in DTYPES:
        names = f"parts {', '.join(builder.PARTS)}; dtypes {', '.join(DTYPES)}"
        raise ValueError(f"part {part!r}, dtype {dtype!r}: of {builder.name} there are {names}")
    train, test = builder.PARTS[part]
    recipe: dict[str, Any] = {
        "dataset": builder.info.full_name,
        "part": part,
        "train": train,
        "test": test,
        "dtype": dtype,
        "captions": builder.CAPTIONS,
        **builder.choose(steps=steps, modalities=modalities),
    }
    builder.part = part
    if out.exists():
        return check_recipe(out / RECIPE, recipe, maker="this")
    splits = builder.examples(manual_dir)
    rows = {
        use: _chosen(manual_dir, splits, names) for use, names in (("train", train), ("test", test))
    }
    keys, examples = zip(*rows["train"], *rows["test"], strict=True)
    columns = _columns(builder, examples)
    columns["train"] = np.arange(len(keys)) < len(rows["train"])
    recipe["rows"] = {use: len(chosen) for use, chosen in rows.items()}
    recipe["open_sets"] = [
        counts._asdict()
        for counts in _open_sets(builder, manual_dir, columns, builder.OPEN_SETS.get(part, ()))
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_space(builder, out.parent, columns, dtype)
    beside = out.with_name(f".{out.name}.incomplete")
    shutil.rmtree(beside, ignore_errors=True)  # of a call that was ended
    beside.mkdir()  # itself: not through a link
    try:
        _write_features(builder, manual_dir, beside, examples, columns, dtype)
        _write_columns(builder, beside, columns)
        write_file(beside / EXAMPLES, lambda f: f.write("".join(f"{k}\n" for k in keys).encode()))
        write_file(beside / RECIPE, lambda f: f.write(json.dumps(recipe, indent=1).encode()))
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return recipe


def _chosen(folder: Path, splits: dict[str, dict], names: str) -> list[tuple[str, dict]]:
    """The examples of splits joined by "+", in their order; of "" none."""
    wanted = names.split("+") if names else []
    absent = [f"no {name} split" for name in wanted if name not in splits]
    if absent:
        raise DataFolderError(folder, absent)
    return [row for name in wanted for row in splits[name].items()]


def _columns(builder: FeatureBuilder, examples: tuple) -> dict[str, Any]:
    """All but the features, as arrays over the examples."""
    found = [builder.columns(example) for example in examples]
    names = tuple(builder.shapes())
    over = lambda kind: {m: np.array([column[kind][m] for column in found]) for m in names}
    columns: dict[str, Any] = {"label": np.array([c["label"] for c in found], np.int32)}
    columns["present"] = over("present")
    columns["group"] = np.arange(len(found), dtype=np.int32)
    if builder.GROUPED:
        columns["group"] = np.array([c["group"] for c in found], np.int32)
    if builder.EVENTS:
        columns |= {"events": over("events"), "labelled": over("labelled")}
    return columns


def _open_sets(
    builder: FeatureBuilder, folder: Path, columns: dict, expected: tuple[OpenSetCounts, ...]
) -> list[OpenSetCounts]:
    """How many examples each open-set protocol has, which is as many as were published."""
    found = [count_open_set(columns, want.source, want.target, want.known) for want in expected]
    problems = [
        f"{want.source} to {want.target}, {want.known} known classes: expected "
        f"{want.train} training, {want.test_known} known and {want.test_unknown} unknown test "
        f"examples, found {have.train}, {have.test_known} and {have.test_unknown}"
        for want, have in zip(expected, found, strict=True)
        if want != have
    ]
    if problems and not builder.builder_config.partial:
        raise DataFolderError(folder, problems)
    return found


def count_open_set(columns: dict, source: str, target: str, known: int) -> OpenSetCounts:
    """The examples of an open-set protocol whose first `known` classes are known."""
    label, train, present = columns["label"], columns["train"], columns["present"]
    is_known = (label >= 0) & (label < known)
    return OpenSetCounts(
        source,
        target,
        known,
        int(np.count_nonzero(train & present[source] & is_known)),
        int(np.count_nonzero(~train & present[target] & is_known)),
        int(np.count_nonzero(~train & present[target] & (label >= known))),
    )


def _check_space(builder: FeatureBuilder, folder: Path, columns: dict, dtype: str) -> None:
    needed = sum(
        int(columns["present"][m].sum()) * int(np.prod(shape)) * np.dtype(dtype).itemsize
        for m, shape in builder.shapes().items()
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


class _RowFile:
    """A new `.npy` file whose rows come in any order; those that never come are zero."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb", buffering=0)
        header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, header | {"shape": shape})
        self._start = self._file.tell()
        self._size = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        self._file.truncate(self._start + shape[0] * self._size)

    def write(self, row: int, array: np.ndarray) -> None:
        # Not through a memory map: there a full disk ends the process.
        content, place = memoryview(array).cast("B"), self._start + row * self._size
        while content:
            count = os.pwrite(self._file.fileno(), content, place)
            content, place = content[count:], place + count

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _write_features(
    builder: FeatureBuilder,
    manual_dir: Path,
    folder: Path,
    examples: tuple,
    columns: dict,
    dtype: str,
) -> None:
    """A file for each modality; one error names all features that are wrong, up to a hundred."""
    little, wrong = np.dtype(dtype).newbyteorder("<"), []
    files = {
        m: _RowFile(folder / f"modality/{m}.npy", (len(examples), *shape), dtype)
        for m, shape in builder.shapes().items()
    }

    def write(row: int) -> None:
        try:
            found = builder.features(examples[row])
            for m in (m for m in found if columns["present"][m][row]):
                files[m].write(row, _cast(found[m], little, place_of(examples[row][m], m)))
        except FeatureFileError as error:
            wrong.append((row, error))

    try:
        with ThreadPoolExecutor() as pool, closing(_mapped(pool, write, len(examples))) as done:
            for _ in counted(done, builder.name, len(examples), "examples"):
                if len(wrong) >= _MOST_ERRORS:
                    break  # closing cancels what has not begun
    finally:
        for file in files.values():
            file.close()
    # An example that is in both parts is read twice.
    errors = {str(error): error for _, error in sorted(wrong, key=lambda pair: pair[0])}
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        raise DataFolderError(manual_dir, tuple(errors)[:_MOST_ERRORS])


def _mapped(
    pool: ThreadPoolExecutor, write: Callable[[int], None], count: int
) -> Generator[None, None, None]:
    """`pool.map` over rows, whose type does not say that it is a generator, to be closed."""
    yield from pool.map(write, range(count))


def _cast(array: np.ndarray, dtype: np.dtype, place: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype)
    if not np.isfinite(cast).all():
        largest = np.abs(array).max()
        raise FeatureFileError(place, None, f"values within {dtype.name}", f"{largest:g}")
    return cast


def _write_columns(builder: FeatureBuilder, folder: Path, columns: dict) -> None:
    arrays = {
        "label": columns["label"],
        "group": columns["group"],
        "split": np.where(columns["train"], "train", "test"),
        "class_name": np.array(builder.class_names(), np.str_),
    }
    arrays |= {"captions": np.array(builder.CAPTIONS)} if builder.CAPTIONS else {}
    arrays |= {f"present/{m}": p for m, p in columns["present"].items() if not p.all()}
    for key, array in arrays.items():
        path = folder / f"{key}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, partial(np.save, arr=array, allow_pickle=False))
    if builder.EVENTS:
        kinds = {f"{k}/{m}": x for k in ("events", "labelled") for m, x in columns[k].items()}
        write_file(folder / EVENTS, lambda file: np.savez_compressed(file, **kinds))


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.data.prepare", description=__doc__.splitlines()[2]
    )
    parser.add_argument("name", choices=sorted(BUILDERS), help="or tuxpaint, with its own flags")
    parser.add_argument("--manual_dir", required=True, help="where the published files are")
    parser.add_argument("--out", required=True, help="a new folder")
    parser.add_argument("--config", default="", help="of the data set: partial, audio_video ...")
    parser.add_argument("--part", default="", help="of the data set: held_out, authors ...")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--steps", type=int, default=0, help="of your own sequences")
    parser.add_argument("--modalities", default="", help="of your own features: video,audio ...")
    return parser


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["tuxpaint"]:  # made of files, where the others are features already
        tuxpaint.main(arguments[1:])
        return
    options = arguments_parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:  # TFDS wants a place, and puts nothing there
            builder = BUILDERS[options.name](config=options.config or None, data_dir=scratch)
            recipe = convert(
                builder,
                options.manual_dir,
                options.out,
                part=options.part,
                dtype=options.dtype,
                steps=options.steps,
                modalities=[m for m in options.modalities.split(",") if m],
            )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(summary(options.out, recipe))


def summary(out: str | Path, recipe: dict[str, Any]) -> str:
    """A few lines on what a conversion has made."""
    lines = [
        f"{out}: {recipe['dataset']}, {recipe['rows']['train']} training examples "
        f"({recipe['train'] or 'none'}), {recipe['rows']['test']} test examples ({recipe['test']})"
    ]
    lines += [
        "  {source} to {target}, {known} known classes: {train} training, {test_known} known and "
        "{test_unknown} unknown test examples".format(**counts)
        for counts in recipe["open_sets"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
