"""All modalities of a folder or manifest, and what becomes of them: a feature set, or banks."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.banks import write_bank
from unirep_jax.data.extract.encoders import (
    Encoder,
    EncoderError,
    Specification,
    choose_encoders,
    make_encoder,
)
from unirep_jax.data.extract.job import DAMAGED, Journal, encode_modality
from unirep_jax.data.extract.manifest import (
    MANIFEST,
    Manifest,
    ManifestError,
    open_manifest,
    write_manifest,
)
from unirep_jax.data.features import load_features
from unirep_jax.data.kinds import Kind
from unirep_jax.data.mapped import chunks, replace_file, write_file
from unirep_jax.data.recipe import check_recipe

FORMATS = ("features", "banks")
DTYPES = ("float32", "float16")
CARD, EXAMPLES, SETTINGS = "card.json", "examples.txt", "settings.json"
_LIBRARIES = ("unirep_jax", "numpy", "jax", "pillow", "soundfile", "soxr", "av", "tokenizers")


def extract(
    path: str | Path,
    out: str | Path,
    *,
    encode: Sequence[str] = (),
    modalities: Sequence[str] = (),
    weights: str | None = None,
    root: str | Path | None = None,
    form: str = "features",
    dtype: str = "float32",
    skip_damaged: bool = False,
    test_fraction: float = 0.25,
    seed: int = 0,
    threads: int | None = None,
    licence: str = "not stated",
) -> dict[str, Any]:
    """Encodes every modality and writes `out`, all of it or nothing.

    What is done lies in a folder beside `out` until then; the same call goes on after an
    interruption, and one with other settings is refused. Memory holds a few batches and the columns
    of the manifest that are numbers.

    Args:
      path: a `manifest.csv`, a folder with one, or a folder of files for each modality.
      out: a new folder.
      encode: texts of `--encode`, see `unirep_jax.data.extract.encoders`.
      modalities: the ones to use, in this order; all where none is named.
      weights: folder for encoders that need weights and have none of their own.
      root: what paths in a manifest are relative to; by default its folder.
      form: "features" as `load_features` reads them, or "banks" of unit vectors: `out`/train and
        `out`/test with NAME.npy for each modality, rows that have them all.
      dtype: float32 or float16.
      skip_damaged: a file that cannot be read is absent, and listed in damaged.csv.
      test_fraction, seed: of the split, where the manifest has none.
      threads: that read files; by default one for each core.
      licence: of the data, for the card.

    Returns:
      The data card, which is `out`/card.json.

    Raises:
      ManifestError, EncoderError, MediaError: what is wrong with which line, setting or file.
      FileExistsError: `out`, or what an interrupted call left, was made with other settings.
    """
    if form not in FORMATS or dtype not in DTYPES:
        valid = f"form {' or '.join(FORMATS)}, dtype {' or '.join(DTYPES)}"
        raise EncoderError(f"form {form!r}, dtype {dtype!r}: expected {valid}")
    path, out = Path(path).expanduser(), Path(out).expanduser()
    work = out.with_name(f".{out.name}.incomplete")
    work.parent.mkdir(parents=True, exist_ok=True)
    split = {"test_fraction": test_fraction, "seed": seed}
    with _manifest(path, work, None if root is None else Path(root), split) as manifest:
        chosen = choose_encoders(encode, manifest.media, modalities)
        if form == "features" and len(chosen) < 2:
            raise EncoderError(
                f"{path}: a feature set has two modalities or more, found {chosen[0].modality}; "
                "--format=banks takes one"
            )
        encoders = {s.modality: make_encoder(s, weights) for s in chosen}
        settings = _settings(manifest, chosen, encoders, form, dtype, skip_damaged)
        if out.exists():
            return check_recipe(out / CARD, settings, maker="this command")
        _continue(work, settings)
        said = {}
        for s in chosen:
            encoder = encoders[s.modality]
            said[s.modality] = fit(encoder, manifest, s.column)
            encode_modality(
                encoder,
                manifest,
                s.modality,
                s.column,
                work / "modality" / f"{s.modality}.npy",
                dtype="int32" if encoder.kind is Kind.WORDS else dtype,
                threads=threads or os.cpu_count() or 1,
                skip_damaged=skip_damaged,
            )
        card = _card(path if root is None else Path(root), manifest, settings, licence, split)
        _finish(work, out, manifest, chosen, form, card, said)
    return card


@contextlib.contextmanager
def _manifest(
    path: Path, work: Path, root: Path | None, split: dict[str, Any]
) -> Iterator[Manifest]:
    """The manifest of a path; that of a folder of files is written beside `work` first."""
    if path.is_file() or (path / MANIFEST).is_file():
        yield open_manifest(path if path.is_file() else path / MANIFEST, root=root, **split)
        return
    if not path.is_dir():
        raise ManifestError(f"{path}: expected a folder or a manifest, found nothing there")
    made = work.with_name(f"{work.name}.{MANIFEST}")
    try:
        write_manifest(path, made)
        yield open_manifest(made, root=path, **split)
    finally:
        made.unlink(missing_ok=True)


def _settings(
    manifest: Manifest,
    chosen: list[Specification],
    encoders: dict[str, Encoder],
    form: str,
    dtype: str,
    skip_damaged: bool,
) -> dict[str, Any]:
    """What has to be the same for one call to continue another."""
    kinds = {m: encoder.kind.value for m, encoder in encoders.items() if encoder.kind}
    return ({"kinds": kinds} if kinds else {}) | {
        "manifest_sha256": manifest.sha256,
        "examples": len(manifest),
        "train_examples": int(manifest.train.sum()),
        "format": form,
        "dtype": dtype,
        "skip_damaged": skip_damaged,
        "encode": {s.modality: str(s).partition(":")[2] for s in chosen},
        "columns": {s.modality: s.column for s in chosen},
        "encoders": {modality: encoder.about for modality, encoder in encoders.items()},
    }


def _continue(work: Path, settings: dict[str, Any]) -> None:
    """Checks that what an interrupted call has left is of the same settings."""
    file = work / SETTINGS
    if work.exists() and file.exists():
        try:
            check_recipe(file, settings, maker="this command")
        except FileExistsError as error:
            raise FileExistsError(f"{error}, or remove {work}, which was interrupted") from error
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()  # itself: not through a link
    write_file(file, lambda stream: stream.write(json.dumps(settings, indent=1).encode()))


def fit(encoder: Encoder, manifest: Manifest, column: str) -> dict[str, Any]:
    """Shows an encoder the training examples, if it learns from them; what the card says of it."""
    if encoder.fit is None:
        return {}
    values = zip(manifest.values(column), manifest.train, strict=True)
    values = (value for value, train in values if train and value)
    return encoder.fit(values if encoder.medium == "text" else map(manifest.root.joinpath, values))


def _card(
    source: Path,
    manifest: Manifest,
    settings: dict[str, Any],
    licence: str,
    split: dict[str, Any],
) -> dict[str, Any]:
    versions = {}
    for library in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return {
        "made_by": "python -m unirep_jax.data.extract",
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "source": str(source.resolve()),
        "root": str(manifest.root.resolve()),  # what the paths in manifest.csv are relative to
        "licence": licence,
        "classes": list(manifest.class_names),
        **split,
        "libraries": versions,
    } | settings


def _finish(
    work: Path,
    out: Path,
    manifest: Manifest,
    chosen: list[Specification],
    form: str,
    card: dict[str, Any],
    said: dict[str, dict[str, Any]],
) -> None:
    """Everything into a folder beside `out`, which is then renamed."""
    present = {s.modality: manifest.present(s.column) for s in chosen}
    damaged = {s.modality: 0 for s in chosen}
    for damage in Journal(work / DAMAGED).read():
        present[damage.modality][damage.row] = False
        damaged[damage.modality] += 1
    card["modalities"] = {}
    for modality, here in present.items():
        array = np.load(work / "modality" / f"{modality}.npy", mmap_mode="r", allow_pickle=False)
        card["modalities"][modality] = said[modality] | {
            "encoder": card["encode"][modality],
            "shape": list(array.shape[1:]),
            "present": int(here.sum()),
            "damaged": damaged[modality],
        }
    made = out.with_name(f".{out.name}.finished")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    (_write_features if form == "features" else _write_banks)(work, made, manifest, present, card)
    shutil.copyfile(manifest.path, made / MANIFEST)
    if (work / DAMAGED).exists():
        shutil.copyfile(work / DAMAGED, made / DAMAGED)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    write_file(made / CARD, lambda stream: stream.write(text.encode()))
    made.replace(out)
    shutil.rmtree(work, ignore_errors=True)


def _write_features(
    work: Path, made: Path, manifest: Manifest, present: dict[str, np.ndarray], card: dict
) -> None:
    kept = np.any(list(present.values()), axis=0)
    card["left_out"] = int((~kept).sum())
    if card["left_out"] == 0:
        (made / "modality").mkdir()
        for modality in present:
            _link(work / "modality" / f"{modality}.npy", made / "modality" / f"{modality}.npy")
    else:
        for modality in present:
            source = np.load(
                work / "modality" / f"{modality}.npy", mmap_mode="r", allow_pickle=False
            )
            _write_rows(made / "modality" / f"{modality}.npy", source, np.flatnonzero(kept))
    columns: dict[str, np.ndarray] = {
        "label": manifest.label[kept],
        "group": manifest.group[kept],
        "split": np.where(manifest.train[kept], "train", "test"),
        "class_name": np.array(manifest.class_names, np.str_),
    }
    columns |= {f"present/{m}": here[kept] for m, here in present.items() if not here[kept].all()}
    columns |= {f"kind/{m}": np.array(kind) for m, kind in card.get("kinds", {}).items()}
    for key, array in columns.items():
        _save(made / f"{key}.npy", array)
    _write_examples(made / EXAMPLES, manifest, kept)
    load_features(made)  # what a user would otherwise be told on the first use


def _write_banks(
    work: Path, made: Path, manifest: Manifest, present: dict[str, np.ndarray], card: dict
) -> None:
    complete = np.all(list(present.values()), axis=0)
    card["left_out"] = int((~complete).sum())
    for part, rows in (("train", manifest.train & complete), ("test", ~manifest.train & complete)):
        if not rows.any():
            continue
        (made / part).mkdir()
        for modality in present:
            path = work / "modality" / f"{modality}.npy"
            source = np.load(path, mmap_mode="r", allow_pickle=False)
            about = json.dumps(
                card["modalities"][modality] | card["encoders"][modality], ensure_ascii=False
            )
            write_bank(
                made / part / f"{modality}.npy",
                _unit_rows(source, np.flatnonzero(rows), modality),
                name=modality,
                about=about,
            )
        _save(made / part / "label.npy", manifest.label[rows])
        _save(made / part / "class_name.npy", np.array(manifest.class_names, np.str_))
        _write_examples(made / part / EXAMPLES, manifest, rows)
    if not complete.any():
        raise EncoderError(f"{manifest.path}: no example has all of {', '.join(present)}")


def _unit_rows(source: np.ndarray, rows: np.ndarray, modality: str) -> Iterator[np.ndarray]:
    if source.ndim != 2 or source.dtype.kind in "iu":
        found = "word ids" if source.dtype.kind in "iu" else source.shape[1:]
        raise EncoderError(f"{modality}: a bank holds vectors, the encoder gives {found}")
    for chunk in chunks(len(rows), source[0].nbytes):
        values = np.asarray(source[rows[chunk]], np.float32)
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        if not norms.all():
            row = rows[chunk][int(np.argmin(norms))]
            raise EncoderError(f"{modality}: example {row} has a zero vector: no direction")
        yield (values / norms).astype(source.dtype)


def _link(source: Path, target: Path) -> None:
    """The same file by another name: were it moved, an interruption here would lose it."""
    try:
        os.link(source, target)
    except OSError:  # some file systems have no such links
        shutil.copyfile(source, target)


def _write_rows(path: Path, source: np.ndarray, rows: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    target = np.lib.format.open_memmap(path, "w+", source.dtype, (len(rows), *source.shape[1:]))
    for chunk in chunks(len(rows), max(1, source[0].nbytes)):
        target[chunk] = source[rows[chunk]]
    target.flush()


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    write_file(path, lambda stream: np.save(stream, array, allow_pickle=False))


def _write_examples(path: Path, manifest: Manifest, kept: np.ndarray) -> None:
    """The id of each row; by default the number of the example."""
    with manifest.path.open(encoding="utf-8-sig") as stream:
        has_id = "id" in stream.readline().strip().replace('"', "").split(",")
    ids = manifest.values("id") if has_id else map(str, range(len(manifest)))
    chosen = (f"{name}\n".encode() for name, keep in zip(ids, kept, strict=True) if keep)
    replace_file(path, lambda stream: stream.writelines(chosen))
