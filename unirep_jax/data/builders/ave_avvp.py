"""AVE to AVVP: twelve events that both data sets have, learnt on the one, found on the other."""

from pathlib import Path

from unirep_jax.data.builders._features import ANNOTATED, FeatureBuilder
from unirep_jax.data.builders._manual import require
from unirep_jax.data.builders.ave import (
    CLIPS,
    FILES,
    check_features,
    read_order,
    row_features,
    second_labels,
)
from unirep_jax.data.builders.avvp import clip_example, read_categories, read_events
from unirep_jax.data.builders.vggsound_avel40k import CITATION, HOMEPAGE

_CLASSES = 12
_LABELS, _ORDER, _CATEGORIES = (
    "ave_avvp_labels.h5",
    "ave_avvp_order.h5",
    "AVE_AVVP_Categories.txt",
)
_FILES = {
    "audio": ("AVE_AVVP_eval_audio_checked_combined.csv", 1085),
    "video": ("AVE_AVVP_eval_visual_checked_combined.csv", 1032),
}


class AveAvvp(FeatureBuilder):
    """1,831 clips of AVE to train on, the clips of LLP with one of the twelve events to test on.

    178 of the training clips are of AVE's own test part: whoever chooses a network by its accuracy
    on AVE, as the authors do, has seen them.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      ave/audio_feature.h5, ave/visual_feature.h5 of AVE
      ave_avvp_labels.h5 (key avadataset), ave_avvp_order.h5 (key order)
      AVE_AVVP_Categories.txt, 12 lines
      AVE_AVVP_eval_audio_checked_combined.csv, AVE_AVVP_eval_visual_checked_combined.csv
      feature/audio/zip/ID.zip, feature/video/zip/ID.zip of AVVP"""
    EVENTS = True

    def _info(self):
        return self.feature_info(classes=_CLASSES, homepage=HOMEPAGE, citation=CITATION)

    def expected(self) -> dict[str, int]:
        return {"train": 1831}

    def index(self, folder: Path) -> dict:
        require(
            folder,
            *(f"ave/{name}" for name in FILES.values()),
            _LABELS,
            _ORDER,
            _CATEGORIES,
            *(name for name, _ in _FILES.values()),
            "feature/audio/zip",
            "feature/video/zip",
        )
        classes = read_categories(folder / _CATEGORIES, _CLASSES)
        self.info.features["label"].names = classes
        check_features(folder / "ave", CLIPS)
        labels = second_labels(folder / _LABELS, CLIPS, _CLASSES, exclusive=False)
        events = {
            m: read_events(folder / name, classes, rows, partial=self.builder_config.partial)
            for m, (name, rows) in _FILES.items()
        }
        return {
            "train": {
                f"ave_{row:04d}": row_features(folder / "ave", row)
                | {"label": -1, "events": dict.fromkeys(ANNOTATED, labels[row])}
                for row in read_order(folder / _ORDER, CLIPS)
            },
            "test": {
                clip: clip_example(
                    folder / "feature", clip, {m: events[m].get(clip) for m in events}
                )
                for clip in sorted({*events["audio"], *events["video"]})
            },
        }
