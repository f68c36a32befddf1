"""UPMC Food-101: pictures of 101 dishes and the titles of the web pages they were found on."""

import csv
import io
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from unirep_jax.data.builders._manual import (
    DataFolderError,
    ManualBuilder,
    image_bytes,
    refuse_repeats,
    require,
    undecodable,
)
from unirep_jax.data.files import read_bytes, split_lines
from unirep_jax.data.limits import TEXT_BYTES

_CITATION = """@inproceedings{wang2015recipe,
  title={Recipe recognition with large multimodal food dataset},
  author={Wang, Xin and Kumar, Devinder and Thome, Nicolas and Cord, Matthieu and Precioso, Frederic},
  booktitle={IEEE International Conference on Multimedia and Expo Workshops},
  year={2015}
}"""  # noqa: E501
_SPLITS = ("train", "test")


def _text(path: Path) -> str:
    """The lines of a file; what is no UTF-8 in them, as in a few published ones, is replaced."""
    content = read_bytes(path, TEXT_BYTES).decode("utf-8-sig", errors="replace")
    return "\n".join(split_lines(content)).strip()


class UpmcFood101(ManualBuilder):
    """Image and text; titles often contain the name of the class, and some images have no text.

    The original 90,840 pairs are no longer offered; the counts checked are those of the copy that
    is in use, 67,972 and 22,716. An image without text is kept, with the empty text.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      images/{train,test}/CLASS/CLASS_NUMBER.jpg
      texts/{train,test}_titles.csv, rows of file name, title, class
    or, in place of texts/, texts_txt/CLASS/CLASS_NUMBER.txt"""
    READERS: ClassVar = {"image": image_bytes, "text": _text}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(doc="RGB, of any size"),
                    "text": tfds.features.Text(doc="title, or '' where there is none"),
                    "label": tfds.features.ClassLabel(),
                }
            ),
            supervised_keys=None,
            citation=_CITATION,
        )

    def expected(self) -> dict[str, int]:
        return {"train": 67972, "test": 22716}

    def index(self, folder: Path) -> dict:
        titled = (folder / "texts").exists()
        texts = [f"texts/{split}_titles.csv" for split in _SPLITS] if titled else ["texts_txt"]
        require(folder, *(f"images/{split}" for split in _SPLITS), *texts)
        images = {
            split: {path.stem: path for path in sorted((folder / "images" / split).glob("*/*.jpg"))}
            for split in _SPLITS
        }
        refuse_repeats(folder / "images", [key for part in images.values() for key in part])
        classes = sorted({path.parent.name for part in images.values() for path in part.values()})
        self.info.features["label"].names = classes
        if titled:
            titles = {split: self._titles(folder, split, images[split]) for split in _SPLITS}
            refuse_repeats(folder / "texts", [key for part in titles.values() for key in part])
        return {
            split: {
                key: {
                    "image": path,
                    "text": titles[split].get(key, "") if titled else _text_file(folder, path),
                    "label": path.parent.name,
                }
                for key, path in part.items()
            }
            for split, part in images.items()
        }

    def _titles(self, folder: Path, split: str, images: dict[str, Path]) -> dict[str, str]:
        """key -> title; the rows agree with the images, or one error says where they do not."""
        path = folder / "texts" / f"{split}_titles.csv"
        content = read_bytes(path, TEXT_BYTES).decode("utf-8-sig", errors="replace")
        try:
            rows = [row for row in csv.reader(io.StringIO(content, newline="")) if row]
        except csv.Error as error:
            raise undecodable(path, "a table", error) from error
        if rows and not rows[0][0].endswith(".jpg"):
            rows = rows[1:]  # a header
        wrong = [f"row {row}: expected file, title, class" for row in rows if len(row) != 3]
        if wrong:
            raise DataFolderError(path, wrong)
        refuse_repeats(path, [name for name, _, _ in rows])
        problems = []
        for name, _, label in rows:
            image = images.get(Path(name).stem)
            if image is None and not self.builder_config.partial:
                problems.append(f"images/{split}/{label}/{name}: missing")
            elif image is not None and image.parent.name != label:
                problems.append(f"{name}: class {label!r} here, {image.parent.name!r} as image")
        if problems:
            raise DataFolderError(path, problems)
        return {Path(name).stem: title for name, title, _ in rows}


def _text_file(folder: Path, image: Path) -> Path | str:
    path = folder / "texts_txt" / image.parent.name / f"{image.stem}.txt"
    return path if path.exists() and path.stat().st_size else ""
