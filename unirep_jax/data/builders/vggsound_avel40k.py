"""VGGSound-AVEL40K: clips of 141 audio-visual events and a prompt for each, as MICU is trained."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from unirep_jax.data.builders._features import ANNOTATED, FeatureBuilder, zipped
from unirep_jax.data.builders._manual import CopyConfig, DataFolderError, refuse_repeats, require
from unirep_jax.data.builders._tables import check_classes, check_ids, lines, table
from unirep_jax.data.builders._text_vectors import TextVectors
from unirep_jax.data.published_shapes import TEXT

CITATION = """@inproceedings{xia2023achieving,
  title={Achieving Cross Modal Generalization with Multimodal Unified Representation},
  author={Xia, Yan and Huang, Hai and Zhu, Jieming and Zhao, Zhou},
  booktitle={Advances in Neural Information Processing Systems},
  year={2023}
}"""
HOMEPAGE = "https://github.com/haihuangcode/CMG"
_LIST, _CATEGORIES = "vggsound-avel40k.csv", "VggsoundAVEL40kCategories.txt"
_PROMPTS = "vggsoundCategories2Prompts.csv"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


@dataclasses.dataclass(eq=False)
class Avel40kConfig(CopyConfig):
    """text: with the vectors of each class's prompt as a third modality."""

    text: bool = True


class VggsoundAvel40k(FeatureBuilder):
    """Audio, video and text of 40,801 clips; a clip's text is the prompt of its class.

    So unsupervised training with the text sees the label. The authors train on all three parts
    together ('authors'); the default leaves the test part out.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      vggsound-avel40k.csv (category, video_id, split), VggsoundAVEL40kCategories.txt
      feature/audio/zip/ID.zip, feature/video/zip/ID.zip
      for text, vggsoundCategories2Prompts.csv (label, prompt), text_vectors.npz of the prompts"""
    BUILDER_CONFIGS: ClassVar = [
        Avel40kConfig(name="complete", description="Audio, video and text."),
        Avel40kConfig(name="audio_video", description="Without text.", text=False),
        Avel40kConfig(name="partial", description="Whatever part is there.", partial=True),
        Avel40kConfig(
            name="audio_video_partial", description="The same.", partial=True, text=False
        ),
    ]
    PARTS: ClassVar = {
        "held_out": ("train+validation", "test"),
        "authors": ("train+validation+test", "test"),
    }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return ANNOTATED | ({"text": TEXT} if self.builder_config.text else {})

    def _info(self):
        return self.feature_info(classes=141, homepage=HOMEPAGE, citation=CITATION)

    def expected(self) -> dict[str, int]:
        return {"train": 24515, "validation": 8171, "test": 8115}

    def index(self, folder: Path) -> dict:
        texts = [_PROMPTS] if self.builder_config.text else []
        require(folder, _LIST, _CATEGORIES, *texts, "feature/audio/zip", "feature/video/zip")
        classes = lines(folder / _CATEGORIES)
        refuse_repeats(folder / _CATEGORIES, classes)
        if len(classes) != 141:
            raise DataFolderError(
                folder / _CATEGORIES, [f"expected 141 classes, found {len(classes)}"]
            )
        self.info.features["label"].names = classes
        rows = table(folder / _LIST, "category", "video_id", "split")
        check_ids(folder / _LIST, (row["video_id"] for row in rows))
        refuse_repeats(folder / _LIST, [row["video_id"] for row in rows])
        check_classes(folder / _LIST, (row["category"] for row in rows), classes)
        odd = {row["split"] for row in rows} - {*_SPLITS.values()}
        if odd:
            raise DataFolderError(folder / _LIST, [f"split {name!r}: unknown" for name in odd])
        vectors = self._prompts(folder, classes) if texts else {}
        number = {name: place for place, name in enumerate(classes)}
        splits: dict[str, dict] = {split: {} for split in _SPLITS}
        for split, word in _SPLITS.items():
            for row in (row for row in rows if row["split"] == word):
                name, category = row["video_id"], row["category"]
                splits[split][name] = {
                    "audio": zipped(folder / "feature", "audio", name),
                    "video": zipped(folder / "feature", "video", name),
                    "label": number[category],
                } | ({"text": vectors[category]} if texts else {})
        return splits

    def _prompts(self, folder: Path, classes: list[str]) -> Mapping:
        """class -> vectors of its prompt."""
        rows = table(folder / _PROMPTS, "label", "prompt")
        refuse_repeats(folder / _PROMPTS, [row["label"] for row in rows])
        prompt = {row["label"]: row["prompt"] for row in rows}
        absent = [f"class {name!r}: no prompt" for name in classes if name not in prompt]
        if absent:
            raise DataFolderError(folder / _PROMPTS, absent)
        vectors = TextVectors(folder, TEXT)
        vectors.check(prompt[name] for name in classes)
        return {name: vectors[prompt[name]] for name in classes}
