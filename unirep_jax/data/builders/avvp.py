"""AVVP (LLP): which of 25 events are heard and which are seen, second by second."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from unirep_jax.data.builders._features import ANNOTATED, FeatureBuilder, zipped
from unirep_jax.data.builders._manual import DataFolderError, refuse_repeats, require
from unirep_jax.data.builders._tables import check_classes, check_count, check_ids, lines, table
from unirep_jax.data.published_shapes import SECONDS

CITATION = """@inproceedings{tian2020unified,
  title={Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video Parsing},
  author={Tian, Yapeng and Li, Dingzeyu and Xu, Chenliang},
  booktitle={ECCV},
  year={2020}
}"""
HOMEPAGE = "https://github.com/YapengTian/AVVP-ECCV20"
_CATEGORIES, _TEST = "AVVP_Categories.txt", "AVVP_test_pd.csv"
_VIDEO_NAME = 11  # characters of a YouTube id; what follows is the window
# File of each modality -> its rows; the second is LLP's own, of one event a row.
_FILES = {
    "audio": {"AVVP_eval_audio_checked_combined.csv": 1846, "AVVP_eval_audio.csv": 4131},
    "video": {"AVVP_eval_visual_checked_combined.csv": 1661, "AVVP_eval_visual.csv": 2495},
}


class Avvp(FeatureBuilder):
    """Audio and video of the clips of LLP that have events in time, for one modality or both.

    A clip is an example once; it has a modality if that was annotated, so `events` and `present`
    agree. The test part is LLP's; validation has all other clips. In 'authors' every clip is in
    both parts: CMG trains on the events of one modality and tests on those of the other, of the
    same videos. Features lie under the YouTube id alone, so two clips of one video share them.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      AVVP_Categories.txt, 25 lines
      AVVP_eval_audio_checked_combined.csv, AVVP_eval_visual_checked_combined.csv
        (filename, onset, offset, event_labels, separated by tabs),
        or LLP's AVVP_eval_audio.csv, AVVP_eval_visual.csv
      AVVP_test_pd.csv of LLP
      feature/audio/zip/ID.zip, feature/video/zip/ID.zip, ID of 11 characters"""
    EVENTS = True
    PARTS: ClassVar = {
        "held_out": ("validation", "test"),
        "authors": ("validation+test", "validation+test"),
    }

    def _info(self):
        return self.feature_info(classes=25, homepage=HOMEPAGE, citation=CITATION)

    def index(self, folder: Path) -> dict:
        files = {m: _annotations(folder, names) for m, names in _FILES.items()}
        require(
            folder, *files.values(), _CATEGORIES, _TEST, "feature/audio/zip", "feature/video/zip"
        )
        classes = read_categories(folder / _CATEGORIES, 25)
        self.info.features["label"].names = classes
        events = {
            m: read_events(
                folder / name, classes, _FILES[m][name], partial=self.builder_config.partial
            )
            for m, name in files.items()
        }
        test = {row["filename"] for row in table(folder / _TEST, "filename", delimiter="\t")}
        splits: dict[str, dict] = {"validation": {}, "test": {}}
        for clip in sorted({*events["audio"], *events["video"]}):
            splits["test" if clip in test else "validation"][clip] = clip_example(
                folder / "feature", clip, {m: events[m].get(clip) for m in events}
            )
        return splits


def _annotations(folder: Path, names: dict[str, int]) -> str:
    """The authors' file where it is there, else LLP's own where that is, else the authors'."""
    return next((name for name in names if (folder / name).exists()), next(iter(names)))


def read_categories(path: Path, count: int) -> list[str]:
    classes = lines(path)
    refuse_repeats(path, classes)
    if len(classes) != count:
        raise DataFolderError(path, [f"expected {count} classes, found {len(classes)}"])
    return classes


def read_events(
    path: Path, classes: list[str], expected: int, *, partial: bool
) -> dict[str, np.ndarray]:
    """clip -> bool [second, class], from onsets, offsets and classes separated by commas.

    Rows of one clip add up. An event that ends where it starts is none, as with the authors.
    """
    rows = table(path, "filename", "onset", "offset", "event_labels", delimiter="\t")
    check_count(path, len(rows), expected, partial=partial)
    check_ids(path, (row["filename"] for row in rows))
    spans = [
        [row[column].split(",") for column in ("onset", "offset", "event_labels")] for row in rows
    ]
    problems = [
        f"row {number}: {row['filename']}: expected as many onsets and offsets within "
        f"0 … {SECONDS} as classes"
        for number, (row, span) in enumerate(zip(rows, spans, strict=True), 2)
        if len({*map(len, span)}) > 1 or not all(map(_second, (*span[0], *span[1])))
    ]
    if problems:
        raise DataFolderError(path, problems)
    check_classes(path, (name for span in spans for name in span[2]), classes)
    events: dict[str, np.ndarray] = {}
    for row, span in zip(rows, spans, strict=True):
        active = events.setdefault(row["filename"], np.zeros((SECONDS, len(classes)), bool))
        for onset, offset, name in zip(*span, strict=True):
            active[int(onset) : int(offset), classes.index(name)] = True
    return events


def clip_example(folder: Path, clip: str, events: dict[str, np.ndarray | None]) -> dict:
    """An example that has the modalities for which its events are known."""
    return {
        modality: None if events[modality] is None else zipped(folder, modality, clip[:_VIDEO_NAME])
        for modality in ANNOTATED
    } | {"label": -1, "events": events}


def _second(word: str) -> bool:
    return word.strip().isascii() and word.strip().isdigit() and int(word) <= SECONDS
