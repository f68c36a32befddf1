"""Caltech-UCSD Birds-200-2011 with ten captions for every image."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from unirep_jax.data.builders._manual import (
    DataFolderError,
    ManualBuilder,
    captions,
    image_bytes,
    lines,
    refuse_repeats,
    require,
)

_CITATION = """@techreport{wah2011caltech,
  title={The Caltech-UCSD Birds-200-2011 Dataset},
  author={Wah, Catherine and Branson, Steve and Welinder, Peter and Perona, Pietro and Belongie, Serge},
  institution={California Institute of Technology},
  number={CNS-TR-2011-001},
  year={2011}
}
@inproceedings{reed2016learning,
  title={Learning deep representations of fine-grained visual descriptions},
  author={Reed, Scott and Akata, Zeynep and Lee, Honglak and Schiele, Bernt},
  booktitle={CVPR},
  year={2016}
}"""  # noqa: E501
_TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt")


class CaltechBirds2011Captions(ManualBuilder):
    """Image and captions, in the two official parts of train_test_split.txt."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir the content of CUB_200_2011:
      images/001.Black_footed_Albatross/*.jpg ...
      images.txt, image_class_labels.txt, train_test_split.txt, classes.txt
    and text_c10/001.Black_footed_Albatross/*.txt ..., captions one a line"""
    READERS: ClassVar = {"image": image_bytes, "captions": captions}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(doc="RGB, of any size"),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "label": tfds.features.ClassLabel(),
                }
            ),
            supervised_keys=None,
            homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
            citation=_CITATION,
        )

    def expected(self) -> dict[str, int]:
        return {"train": 5994, "test": 5794}

    def index(self, folder: Path) -> dict:
        require(folder, "images", *_TABLES, "classes.txt", "text_c10")
        classes = _table(folder / "classes.txt")
        self.info.features["label"].names = list(classes.values())
        names, labels, train = (_table(folder / name) for name in _TABLES)
        problems = [
            f"image {i}: not in all of {', '.join(_TABLES)}"
            for i in sorted(names.keys() | labels.keys() | train.keys(), key=int)
            if not (i in names and i in labels and i in train)
        ]
        problems += [
            f"image {i}: class {c} is not in classes.txt"
            for i, c in labels.items()
            if c not in classes
        ]
        problems += [
            f"image {i}: {value!r} in train_test_split.txt is neither 0 nor 1"
            for i, value in train.items()
            if value not in ("0", "1")
        ]
        if problems:
            raise DataFolderError(folder, problems)
        refuse_repeats(folder / "images.txt", [Path(name).stem for name in names.values()])
        splits: dict = {"train": {}, "test": {}}
        for i, name in names.items():
            path = Path(name)
            splits["train" if train[i] == "1" else "test"][path.stem] = {
                "image": folder / "images" / path,
                "captions": folder / "text_c10" / path.with_suffix(".txt"),
                "label": classes[labels[i]],
            }
        return splits


def _table(path: Path) -> dict[str, str]:
    """Lines 'id value' as a dictionary; no id comes twice."""
    parts = [line.split(maxsplit=1) for line in lines(path)]
    wrong = [
        f"line {' '.join(line)!r}: expected 'number value'"
        for line in parts
        if len(line) != 2 or not line[0].isdigit()
    ]
    if wrong:
        raise DataFolderError(path, wrong)
    refuse_repeats(path, [number for number, _ in parts])
    return {number: value.strip() for number, value in parts}
