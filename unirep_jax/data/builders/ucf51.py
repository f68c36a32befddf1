"""UCF51: the 51 classes of UCF101 whose videos have sound."""

import re
from pathlib import Path
from typing import ClassVar

from unirep_jax.data.builders._features import (
    FeatureBuilder,
    OpenSetCounts,
    zipped,
)
from unirep_jax.data.builders._manual import DataFolderError, refuse_repeats, require
from unirep_jax.data.builders._tables import check_classes, lines, table

CITATION = """@article{soomro2012ucf101,
  title={{UCF101}: A dataset of 101 human actions classes from videos in the wild},
  author={Soomro, Khurram and Zamir, Amir Roshan and Shah, Mubarak},
  journal={arXiv preprint arXiv:1212.0402},
  year={2012}
}"""
HOMEPAGE = "https://www.crcv.ucf.edu/data/UCF101.php"
_LIST, _CATEGORIES = "ucf51checked.csv", "UCF51Categories.txt"
_CLIP = re.compile(r"v_(\w+)_g(\d\d)_c\d\d")
_LAST_TEST_GROUP = 7


class Ucf51(FeatureBuilder):
    """Audio and video of 6,831 clips.

    Clips of one group of a class were cut from one video. Groups 1 to 7 are the test part, as in
    the first official split of UCF101. In 'authors' every clip is in both parts, as OSCMG has it:
    its probes are tested on their training clips, in the other modality.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      ucf51checked.csv (category, video_id), UCF51Categories.txt
      feature/audio/zip/ID.zip, feature/video/zip/ID.zip"""
    FITTED: ClassVar = {"audio": "cut", "video": "cut"}
    GROUPED = True
    PARTS: ClassVar = {
        "held_out": ("train", "test"),
        "authors": ("train+test", "train+test"),
    }
    OPEN_SETS: ClassVar = {
        "authors": tuple(
            OpenSetCounts(source, target, known, train, train, 6831 - train)
            for known, train in ((17, 2289), (34, 4623))
            for source, target in (("audio", "video"), ("video", "audio"))
        )
    }

    def _info(self):
        return self.feature_info(classes=51, homepage=HOMEPAGE, citation=CITATION)

    def expected(self) -> dict[str, int]:
        return {"train": 4889, "test": 1942}

    def index(self, folder: Path) -> dict:
        require(folder, _LIST, _CATEGORIES, "feature/audio/zip", "feature/video/zip")
        classes = lines(folder / _CATEGORIES)
        refuse_repeats(folder / _CATEGORIES, classes)
        if len(classes) != 51:
            raise DataFolderError(
                folder / _CATEGORIES, [f"expected 51 classes, found {len(classes)}"]
            )
        self.info.features["label"].names = classes
        rows = table(folder / _LIST, "category", "video_id")
        check_classes(folder / _LIST, (row["category"] for row in rows), classes)
        groups = clip_groups(folder / _LIST, [row["video_id"] for row in rows])
        splits: dict[str, dict] = {"train": {}, "test": {}}
        for row, group in zip(rows, groups, strict=True):
            name, label = row["video_id"], classes.index(row["category"])
            splits["test" if group <= _LAST_TEST_GROUP else "train"][name] = {
                "audio": zipped(folder / "feature", "audio", name),
                "video": zipped(folder / "feature", "video", name),
                "label": label,
                "group": 100 * label + group,
            }
        return splits


def clip_groups(path: Path, clips: list[str]) -> list[int]:
    """The group in the name of each clip, v_CLASS_gGROUP_cNUMBER; no clip comes twice."""
    refuse_repeats(path, clips)
    matches = [_CLIP.fullmatch(clip) for clip in clips]
    odd = [
        f"{clip}: not named v_CLASS_gGROUP_cNUMBER"
        for clip, match in zip(clips, matches, strict=True)
        if not match
    ]
    if odd:
        raise DataFolderError(path, odd)
    return [int(match[2]) for match in matches if match]
