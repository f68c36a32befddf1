"""AVE: 28 audio-visual events, with the class of every second."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from unirep_jax.data.builders._features import ANNOTATED, FeatureBuilder, OpenSetCounts
from unirep_jax.data.builders._h5 import H5Row, check_h5, h5_array
from unirep_jax.data.builders._manual import DataFolderError, require
from unirep_jax.data.builders._tables import lines
from unirep_jax.data.published_shapes import SECONDS

CITATION = """@inproceedings{tian2018audio,
  title={Audio-Visual Event Localization in Unconstrained Videos},
  author={Tian, Yapeng and Shi, Jing and Li, Bochen and Duan, Zhiyao and Xu, Chenliang},
  booktitle={ECCV},
  year={2018}
}"""
HOMEPAGE = "https://github.com/YapengTian/AVE-ECCV18"
KEY = "avadataset"
FILES = {"audio": "audio_feature.h5", "video": "visual_feature.h5"}
CLIPS, CLASSES = 4143, 28
_ORDERS = {"train": "train", "validation": "val", "test": "test"}


class Ave(FeatureBuilder):
    """Audio and video of 4,143 clips of 28 events, in the three official parts.

    Classes are numbered in the order in which Annotations.txt first names them, so the first 14 and
    21 are those that OSCMG calls known. Of a few videos there are two clips; a group is a video.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      audio_feature.h5, visual_feature.h5, labels.h5 (key avadataset)
      train_order.h5, val_order.h5, test_order.h5 (key order)
      Annotations.txt (Category&VideoID&Quality&StartTime&EndTime)"""
    GROUPED = True
    EVENTS = True
    PARTS: ClassVar = {"official": ("train", "test")}
    OPEN_SETS: ClassVar = {
        "official": tuple(
            OpenSetCounts(source, target, known, *counts)
            for known, counts in ((14, (1857, 223, 179)), (21, (2628, 316, 86)))
            for source, target in (("audio", "video"), ("video", "audio"))
        )
    }

    def _info(self):
        return self.feature_info(classes=CLASSES, homepage=HOMEPAGE, citation=CITATION)

    def expected(self) -> dict[str, int]:
        return {"train": 3339, "validation": 402, "test": 402}

    def index(self, folder: Path) -> dict:
        orders = [f"{name}_order.h5" for name in _ORDERS.values()]
        require(folder, *FILES.values(), "labels.h5", *orders, "Annotations.txt")
        clips = read_annotations(folder / "Annotations.txt")
        classes = list(dict.fromkeys(category for category, _ in clips))
        if len(classes) != CLASSES:
            raise DataFolderError(
                folder / "Annotations.txt", [f"expected {CLASSES} classes, found {len(classes)}"]
            )
        self.info.features["label"].names = classes
        label = [classes.index(category) for category, _ in clips]
        videos = {video: place for place, video in enumerate(dict.fromkeys(v for _, v in clips))}
        check_features(folder, len(clips))
        events = second_labels(folder / "labels.h5", len(clips), CLASSES, exclusive=True)
        _check_agreement(folder, events, np.array(label))
        parts = {
            split: read_order(folder / f"{name}_order.h5", len(clips))
            for split, name in _ORDERS.items()
        }
        _refuse_shared_rows(folder, parts)
        return {
            split: {
                f"{row:04d}_{clips[row][1]}": row_features(folder, row)
                | {"label": label[row], "group": videos[clips[row][1]]}
                | {"events": dict.fromkeys(ANNOTATED, events[row])}
                for row in rows
            }
            for split, rows in parts.items()
        }


def read_annotations(path: Path) -> list[tuple[str, str]]:
    """Category and video of each clip, in the order of the features; with or without a header."""
    rows = [line.split("&") for line in lines(path)]
    if rows and rows[0][0] == "Category":
        rows = rows[1:]
    wrong = [f"row {'&'.join(row)!r}: expected five fields" for row in rows if len(row) != 5]
    if wrong:
        raise DataFolderError(path, wrong)
    return [(row[0], row[1]) for row in rows]


def check_features(folder: Path, clips: int) -> None:
    """The features of AVE are there, a row for each clip."""
    for modality, name in FILES.items():
        check_h5(folder / name, KEY, (clips, *ANNOTATED[modality]))


def row_features(folder: Path, row: int) -> dict[str, H5Row]:
    return {m: H5Row(folder / name, KEY, row) for m, name in FILES.items()}


def read_order(path: Path, clips: int) -> list[int]:
    """The rows of a part, each once."""
    order = h5_array(path, "order", (None,))
    if order.dtype.kind not in "iu":
        raise DataFolderError(path, [f"expected row numbers, found {order.dtype}"])
    rows, times = np.unique(order, return_counts=True)
    problems = [f"row {row}: not within 0 … {clips - 1}" for row in rows if not 0 <= row < clips]
    problems += [
        f"row {row}: listed {n} times" for row, n in zip(rows, times, strict=True) if n > 1
    ]
    if problems:
        raise DataFolderError(path, problems)
    return order.tolist()


def second_labels(path: Path, clips: int, classes: int, *, exclusive: bool) -> np.ndarray:
    """bool [clip, second, class] of a file that has the background as one class more, the last.

    exclusive: every second is of one class, or background.
    """
    label = h5_array(path, KEY, (clips, SECONDS, classes + 1))
    good = np.isin(label, (0, 1)).all((1, 2)) & (label[..., :-1].any(2) != label[..., -1]).all(1)
    if exclusive:
        good &= (label.sum(2) == 1).all(1)
    if not good.all():
        wrong = [
            f"row {row}: expected 0 and 1, background where no event is"
            for row in np.flatnonzero(~good)
        ]
        raise DataFolderError(path, wrong)
    return label[..., :-1] == 1


def _check_agreement(folder: Path, events: np.ndarray, label: np.ndarray) -> None:
    """A clip has events of the class that its annotation names alone; one clip has none."""
    found: np.ndarray = np.any(events, 1)
    good = found.sum(1) == found[np.arange(len(label)), label]
    if not good.all():
        wrong = [
            f"row {row}: classes {np.flatnonzero(found[row]).tolist()} in labels.h5, "
            f"{label[row]} in Annotations.txt"
            for row in np.flatnonzero(~good)
        ]
        raise DataFolderError(folder, wrong)


def _refuse_shared_rows(folder: Path, parts: dict[str, list[int]]) -> None:
    rows, times = np.unique(np.concatenate(list(parts.values())), return_counts=True)
    if (times > 1).any():
        shared = [f"row {row}: in more than one part" for row in rows[times > 1]]
        raise DataFolderError(folder, shared)
