"""Clips and captions of zero-shot retrieval, and Valor-32K, whose clips have both sight and sound.

The lengths of these features differ. They are read at ten evenly spaced steps; ≠ the authors, whose
loaders give them as they are, and whose evaluation script is not public. A still image is video.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from unirep_jax.data.builders._features import ANNOTATED, FeatureBuilder, zipped
from unirep_jax.data.builders._manual import DataFolderError, refuse_repeats, require
from unirep_jax.data.builders._tables import check_count, check_ids, records, table
from unirep_jax.data.builders._text_vectors import TextVectors
from unirep_jax.data.builders.vggsound_avel40k import HOMEPAGE
from unirep_jax.data.published_shapes import AUDIO, TEXT, VIDEO

CITATION = """@article{huang2024enhancing,
  title={Enhancing Multimodal Unified Representations for Cross Modal Generalization},
  author={Huang, Hai and Xia, Yan and Ji, Shengpeng and Wang, Shulei and Wang, Hanting and Fang, Minghui and Zhu, Jieming and Dong, Zhenhua and Zhou, Sashuai and Zhao, Zhou},
  journal={arXiv preprint arXiv:2403.05168},
  year={2024}
}"""  # noqa: E501
_TEXTS = "text_vectors.npz with the vectors of every caption"


class _Clip(NamedTuple):
    """A clip as its table has it: the name of its files, and one caption or more."""

    name: str
    captions: Sequence[str]


class _Captioned(FeatureBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One example for each caption; the examples of one clip are a group."""

    FITTED: ClassVar = {"audio": "spread", "video": "spread"}
    GROUPED = True
    CAPTIONS = "text"
    PARTS: ClassVar = {"zero_shot": ("", "test")}
    FOLDERS: ClassVar[dict[str, str]] = {}  # modality -> where its zip files are

    def _info(self):
        return self.feature_info(classes=0, homepage=HOMEPAGE, citation=CITATION)

    def tables(self, folder: Path) -> dict[str, Path]:
        """split -> its table."""
        raise NotImplementedError

    def clips(self, path: Path) -> list[_Clip]:
        raise NotImplementedError

    def index(self, folder: Path) -> dict:
        tables = self.tables(folder)
        require(
            folder,
            *(str(path.relative_to(folder)) for path in tables.values()),
            *self.FOLDERS.values(),
        )
        parts = {split: self.clips(path) for split, path in tables.items()}
        for split, clips in parts.items():
            check_ids(tables[split], (clip.name for clip in clips))
            refuse_repeats(tables[split], [clip.name for clip in clips])
        vectors = TextVectors(folder, TEXT)
        captions = (text for clips in parts.values() for clip in clips for text in clip.captions)
        vectors.check(captions)
        names = dict.fromkeys(clip.name for clips in parts.values() for clip in clips)
        number = {name: place for place, name in enumerate(names)}
        return {
            split: {
                key: self._files(folder, clip)
                | {"text": vectors[caption]}
                | {"label": -1, "group": number[clip.name]}
                for clip in clips
                for key, caption in _keys(clip)
            }
            for split, clips in parts.items()
        }

    def _files(self, folder: Path, clip: _Clip) -> dict[str, Any]:
        return {m: folder / place / f"{clip.name}.zip" for m, place in self.FOLDERS.items()}


def _keys(clip: _Clip) -> Iterator[tuple[str, str]]:
    """The key of each caption: the clip's name, numbered where there are several."""
    for place, caption in enumerate(clip.captions, 1):
        yield (clip.name if len(clip.captions) == 1 else f"{clip.name}#{place}"), caption


class ClothoFeatures(_Captioned):
    """Audio of the 1,045 evaluation clips of Clotho and five captions of each."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      clotho_captions_evaluation.csv (file_name, caption_1, ..., caption_5)
      feature/zip/NAME.zip, NAME of the file without .wav
      {_TEXTS}"""
    SHAPES: ClassVar = {"audio": AUDIO, "text": TEXT}
    FOLDERS: ClassVar = {"audio": "feature/zip"}

    def expected(self) -> dict[str, int]:
        return {"test": 5 * 1045}

    def tables(self, folder: Path) -> dict[str, Path]:
        return {"test": folder / "clotho_captions_evaluation.csv"}

    def clips(self, path: Path) -> list[_Clip]:
        columns = [f"caption_{i}" for i in range(1, 6)]
        rows = table(path, "file_name", *columns)
        return [
            _Clip(row["file_name"].removesuffix(".wav"), [row[c] for c in columns]) for row in rows
        ]


class MsvdFeatures(_Captioned):
    """Video of MSVD and one caption of each clip, as the authors chose them."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      msvd.csv, the authors' list (video_name, caption)
      feature/zip/NAME.zip
      {_TEXTS}"""
    SHAPES: ClassVar = {"video": VIDEO, "text": TEXT}
    FOLDERS: ClassVar = {"video": "feature/zip"}

    def tables(self, folder: Path) -> dict[str, Path]:
        return {"test": folder / "msvd.csv"}

    def clips(self, path: Path) -> list[_Clip]:
        return [
            _Clip(r["video_name"], [r["caption"]]) for r in table(path, "video_name", "caption")
        ]


class MscocoFeatures(_Captioned):
    """Images of MSCOCO's validation part, as far as the authors' list has them, and captions."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      val_part_1.json, {{"annotations": [{{"image_id": 139, "caption": "..."}}, ...]}}
      feature/zip/000000000139.zip
      {_TEXTS}"""
    SHAPES: ClassVar = {"video": VIDEO, "text": TEXT}
    FOLDERS: ClassVar = {"video": "feature/zip"}

    def tables(self, folder: Path) -> dict[str, Path]:
        return {"test": folder / "val_part_1.json"}

    def clips(self, path: Path) -> list[_Clip]:
        captions: dict[str, list[str]] = {}
        for entry in records(path, "image_id", "caption", within="annotations"):
            if type(entry["image_id"]) is not int or not isinstance(entry["caption"], str):
                raise DataFolderError(path, [f"{entry}: expected a number and a text"])
            captions.setdefault(f"{entry['image_id']:012}", []).append(entry["caption"])
        return [_Clip(name, texts) for name, texts in captions.items()]


class Valor32k(_Captioned):
    """Audio, video and a description of the clips of Valor-32K.

    `random_500` and `random_1000` are parts of it that the authors drew; they are read where their
    lists are there.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      desc_train.json, desc_val.json, desc_test.json, perhaps random_500.json, random_1000.json,
        [{{"video_id": "...", "desc": "..."}}, ...]
      feature/audio/zip/ID.zip, feature/video/zip/ID.zip
      {_TEXTS}"""
    SHAPES: ClassVar = ANNOTATED | {"text": TEXT}
    FOLDERS: ClassVar = {"audio": "feature/audio/zip", "video": "feature/video/zip"}
    PARTS: ClassVar = {
        "official": ("train+validation", "test"),
        "zero_shot": ("", "test"),
        "random_500": ("", "random_500"),
        "random_1000": ("", "random_1000"),
    }

    def tables(self, folder: Path) -> dict[str, Path]:
        names = {"train": "desc_train", "validation": "desc_val", "test": "desc_test"}
        drawn = [
            name for name in ("random_500", "random_1000") if (folder / f"{name}.json").exists()
        ]
        names |= {name: name for name in drawn}
        return {split: folder / f"{name}.json" for split, name in names.items()}

    def clips(self, path: Path) -> list[_Clip]:
        found = records(path, "video_id", "desc")
        odd = [
            f"{entry}: expected two texts"
            for entry in found
            if not all(isinstance(entry[key], str) for key in ("video_id", "desc"))
        ]
        if odd:
            raise DataFolderError(path, odd)
        if path.stem.startswith("random_"):
            count = int(path.stem.removeprefix("random_"))
            check_count(path, len(found), count, partial=self.builder_config.partial)
        return [_Clip(entry["video_id"], [entry["desc"]]) for entry in found]


class FlickrSoundnet(FeatureBuilder):
    """Audio and image of the test clips of Flickr-SoundNet, for retrieval without words."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      test.csv (filename), names with an ending of four characters
      feature/audio/zip/NAME.zip, feature/image/zip/NAME.zip, NAME without the ending"""
    FITTED: ClassVar = {"audio": "spread", "video": "spread"}
    PARTS: ClassVar = {"zero_shot": ("", "test")}

    def _info(self):
        return self.feature_info(classes=0, homepage=HOMEPAGE, citation=CITATION)

    def index(self, folder: Path) -> dict:
        require(folder, "test.csv", "feature/audio/zip", "feature/image/zip")
        names = [row["filename"][:-4] for row in table(folder / "test.csv", "filename")]
        check_ids(folder / "test.csv", names)
        refuse_repeats(folder / "test.csv", names)
        place = folder / "feature"
        return {
            "test": {
                name: {
                    "audio": zipped(place, "audio", name),
                    "video": zipped(place, "image", name),
                    "label": -1,
                }
                for name in names
            }
        }
