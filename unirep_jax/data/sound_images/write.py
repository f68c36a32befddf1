"""A manifest of images and sounds with their true boxes, and pictures of proposed boxes."""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial as bound
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.files import user_path
from unirep_jax.data.mapped import write_file
from unirep_jax.data.sound_images.readers import READERS, Box, SoundImage, box, read_json

_SHOWN = 20  # missing files that an error names


def convert(
    name: str,
    manual_dir: str | Path,
    out: str | Path,
    *,
    proposals: str | Path = "",
    partial: bool = False,
) -> str:
    """Writes `manifest.csv` for extraction and, of a set with boxes, `boxes.npz`; all or nothing.

    manifest.csv has id, split (test), image, audio and, where known, class_name, a row for each
    image with its sound. boxes.npz has `truth_box` [box, 4] and `truth_of` [box], the row of each.
    With proposals it has `proposal_box` and `proposal_of` as well, and crops.csv and crops/ hold
    what each proposal shows, in the same order.

    Args:
      name: of `READERS`.
      manual_dir: with the annotations, frames/ and audio/.
      out: a new folder.
      proposals: a JSON file, image -> its boxes x1, y1, x2, y2 in 0 … 1; an image is named without
        frames/ and .jpg.
      partial: leave out what has no files, and do not compare the number with the published one.

    Returns:
      What was written, in words.

    Raises:
      FeatureFileError: an annotation is not of the published form.
      ValueError: files are missing, or there are more or fewer than published.
      FileExistsError: `out` exists.
    """
    reader, folder, out = READERS[name], user_path(manual_dir), user_path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another folder")
    absent = [file for file in reader.files if not (folder / file).exists()]
    if absent:
        raise ValueError(f"{folder}: missing {', '.join(absent)}")
    pairs = _checked(name, folder, reader.read(folder), reader.published, partial=partial)
    boxes = _boxes([pair.boxes for pair in pairs], "truth") if reader.located else {}
    beside = out.with_name(f".{out.name}.incomplete")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        _write_manifest(beside / "manifest.csv", folder, out, pairs)
        if proposals:
            proposed = _proposals(user_path(proposals), pairs)
            boxes |= _boxes(proposed, "proposal")
            _write_crops(beside, folder, pairs, proposed)
        if boxes:
            write_file(beside / "boxes.npz", lambda stream: np.savez(stream, **boxes))
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return _summary(out, name, pairs, boxes)


def _checked(
    name: str, folder: Path, pairs: list[SoundImage], count: int, *, partial: bool
) -> list[SoundImage]:
    """The pairs whose files are there, which without `partial` are all that are published."""
    twice = [key for key, times in Counter(pair.id for pair in pairs).items() if times > 1]
    if twice:
        raise ValueError(f"{folder}: {twice[0]} is listed twice")
    outside = [p for p in pairs if ".." in Path(p.image).parts + Path(p.audio).parts]
    if outside:
        raise ValueError(f"{folder}: {outside[0].id!r} leads out of the folder")
    missing = {f for p in pairs for f in (p.image, p.audio) if not (folder / f).is_file()}
    whole = [pair for pair in pairs if not {pair.image, pair.audio} & missing]
    if partial and whole:
        return whole
    if missing:
        shown = ", ".join(sorted(missing)[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        hint = "nothing is left" if partial else "--partial leaves out what has no files"
        raise ValueError(f"{folder}: missing {shown}{more} ({hint})")
    if len(pairs) != count:
        raise ValueError(
            f"{folder}: expected {count} pairs of {name}, found {len(pairs)} (--partial takes them)"
        )
    return pairs


def _write_manifest(path: Path, folder: Path, out: Path, pairs: Sequence[SoundImage]) -> None:
    """Paths are relative to where the manifest will lie."""
    named = any(pair.class_name for pair in pairs)
    where = lambda file: os.path.relpath(folder / file, out)
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "split", "image", "audio", *(["class_name"] if named else [])])
        for pair in pairs:
            own = [pair.class_name] if named else []
            rows.writerow([pair.id, "test", where(pair.image), where(pair.audio), *own])


def _boxes(each: Sequence[Sequence[Box]], kind: str) -> dict[str, Any]:
    """All boxes in the order of the rows, and the row of each."""
    counts = [len(boxes) for boxes in each]
    flat = [corners for boxes in each for corners in boxes]
    return {
        f"{kind}_box": np.array(flat, np.float64).reshape(-1, 4),
        f"{kind}_of": np.repeat(np.arange(len(each)), counts),
    }


def _proposals(path: Path, pairs: Sequence[SoundImage]) -> list[tuple[Box, ...]]:
    """Of each pair the boxes of its image; an image that is not named has none."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise FeatureFileError(path, None, "lists of boxes by image", type(content).__name__)
    known = {_image_name(pair) for pair in pairs}
    if not known & content.keys():
        example = next(iter(known))
        raise FeatureFileError(path, None, f"images of the set, as {example!r}", "none of them")
    return [_of_image(path, content, _image_name(pair)) for pair in pairs]


def _image_name(pair: SoundImage) -> str:
    return pair.image.removeprefix("frames/").removesuffix(".jpg")


def _of_image(path: Path, content: Mapping[str, Any], name: str) -> tuple[Box, ...]:
    return tuple(box(path, name, corners) for corners in content.get(name, ()))


def _write_crops(
    out: Path, folder: Path, pairs: Sequence[SoundImage], proposed: Sequence[Sequence[Box]]
) -> None:
    """crops/ROW_PLACE.png, at least a pixel large, and crops.csv, which names them in order."""
    from unirep_jax.data.extract.media import read_image

    (out / "crops").mkdir()
    with (out / "crops.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "split", "image"])
        for row, (pair, boxes) in enumerate(zip(pairs, proposed, strict=True)):
            image = read_image(folder / pair.image) if boxes else None
            for place, corners in enumerate(boxes):
                name = f"{row:06d}_{place}"
                cut = image.crop(_pixels(corners, image.width, image.height))  # type: ignore[union-attr]
                write_file(out / f"crops/{name}.png", bound(cut.save, format="PNG"))
                rows.writerow([name, "test", f"crops/{name}.png"])


def _pixels(corners: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The pixels that a box touches, one at least."""
    x1, y1, x2, y2 = corners
    left, upper = min(int(x1 * width), width - 1), min(int(y1 * height), height - 1)
    right, lower = max(round(x2 * width), left + 1), max(round(y2 * height), upper + 1)
    return left, upper, right, lower


def _summary(out: Path, name: str, pairs: Sequence[SoundImage], boxes: Mapping) -> str:
    lines = [f"{out}: {name}, {len(pairs)} images with a sound"]
    if boxes:
        without = sum(not pair.boxes for pair in pairs)
        lines[0] += f", {len(boxes['truth_of'])} true boxes, {without} images without any"
    if "proposal_of" in boxes:
        lines.append(f"  {len(boxes['proposal_of'])} proposals in crops/")
    agreement = READERS[name].agreement
    if agreement > 1:
        lines.append(f"  evaluate with --agreement={agreement}")
    return "\n".join(lines)
