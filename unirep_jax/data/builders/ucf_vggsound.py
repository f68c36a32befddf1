"""UCF101 seen and VGGSound heard: sixteen actions that both data sets have, never paired."""

from pathlib import Path
from typing import ClassVar

from unirep_jax.data.builders._features import (
    FeatureBuilder,
    OpenSetCounts,
    zipped,
)
from unirep_jax.data.builders._manual import DataFolderError, refuse_repeats, require
from unirep_jax.data.builders._tables import check_classes, check_ids, lines, table
from unirep_jax.data.builders.vggsound_avel40k import CITATION, HOMEPAGE

_LISTS = {"video": "ucf2vggsound.csv", "audio": "vggsound2ucf.csv"}
_CATEGORIES = {"video": "UCF101sameVGGSound.txt", "audio": "VGGSoundsameUCF101.txt"}
_CLASSES = 16


class UcfVggsound(FeatureBuilder):
    """Video of 2,003 clips of UCF101 and audio of 4,813 clips of VGGSound, each alone.

    A probe learns from one data set and is tested on the other, so every clip is in both parts. No
    UCF clip is of class 10 (bowling) and no VGGSound clip of class 6 (frisbee). Every VGGSound clip
    is in VGGSound-AVEL40K too, on all of which the authors train.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      ucf2vggsound.csv (category, video_id), vggsound2ucf.csv (category, video_id, split)
      UCF101sameVGGSound.txt, VGGSoundsameUCF101.txt, 16 parallel lines
      ucf/feature/video/zip/ID.zip, vggsound/feature/audio/zip/ID.zip"""
    FITTED: ClassVar = {"audio": "cut", "video": "cut"}
    PARTS: ClassVar = {"authors": ("ucf+vggsound", "ucf+vggsound")}
    OPEN_SETS: ClassVar = {
        "authors": (
            OpenSetCounts("video", "audio", 8, 1160, 2390, 2423),
            OpenSetCounts("video", "audio", 12, 1556, 3518, 1295),
            OpenSetCounts("audio", "video", 8, 2390, 1160, 843),
            OpenSetCounts("audio", "video", 12, 3518, 1556, 447),
        )
    }

    def _info(self):
        return self.feature_info(classes=_CLASSES, homepage=HOMEPAGE, citation=CITATION)

    def expected(self) -> dict[str, int]:
        return {"ucf": 2003, "vggsound": 4813}

    def index(self, folder: Path) -> dict:
        folders = {"video": folder / "ucf/feature", "audio": folder / "vggsound/feature"}
        require(
            folder,
            *_LISTS.values(),
            *_CATEGORIES.values(),
            "ucf/feature/video/zip",
            "vggsound/feature/audio/zip",
        )
        classes = {m: _categories(folder / name) for m, name in _CATEGORIES.items()}
        self.info.features["label"].names = classes["video"]
        splits: dict[str, dict] = {"ucf": {}, "vggsound": {}}
        for (modality, name), split in zip(_LISTS.items(), splits, strict=True):
            path, known = folder / name, classes[modality]
            rows = table(path, "category", "video_id")
            check_ids(path, (row["video_id"] for row in rows))
            refuse_repeats(path, [row["video_id"] for row in rows])
            check_classes(path, (row["category"] for row in rows), known)
            for row in rows:
                splits[split][row["video_id"]] = {"audio": None, "video": None} | {
                    modality: zipped(folders[modality], modality, row["video_id"]),
                    "label": known.index(row["category"]),
                }
        return splits


def _categories(path: Path) -> list[str]:
    """One class a line; what follows a tab is no part of it, as in line 11 of the UCF file."""
    classes = [line.split("\t")[0].strip() for line in lines(path)]
    refuse_repeats(path, classes)
    if len(classes) != _CLASSES:
        raise DataFolderError(path, [f"expected {_CLASSES} classes, found {len(classes)}"])
    return classes
