"""Oxford Flower-102 with ten captions for every image."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from unirep_jax.data.builders._manual import (
    DataFolderError,
    ManualBuilder,
    captions,
    image_bytes,
    refuse_repeats,
    require,
    undecodable,
)
from unirep_jax.data.builders._mat import mat_variable

_CITATION = """@inproceedings{nilsback2008automated,
  title={Automated flower classification over a large number of classes},
  author={Nilsback, Maria-Elena and Zisserman, Andrew},
  booktitle={Indian Conference on Computer Vision, Graphics and Image Processing},
  year={2008}
}
@inproceedings{reed2016learning,
  title={Learning deep representations of fine-grained visual descriptions},
  author={Reed, Scott and Akata, Zeynep and Lee, Honglak and Schiele, Bernt},
  booktitle={CVPR},
  year={2016}
}"""
_CLASSES = 102
_KEYS = {"train": "trnid", "validation": "valid", "test": "tstid"}


class OxfordFlowers102Captions(ManualBuilder):
    """Image and captions, in the three official parts of setid.mat.

    The official training part is the small one (1,020 of 8,189, ten a class) and the test part the
    large one. Papers that train on the larger one read split "test" for training and
    "train+validation" for test.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      jpg/image_00001.jpg ... image_08189.jpg
      imagelabels.mat, setid.mat
      text_c10/class_00001/image_00001.txt ..., captions one a line"""
    READERS: ClassVar = {"image": image_bytes, "captions": captions}

    def _info(self) -> tfds.core.DatasetInfo:
        names = [f"class_{i:05d}" for i in range(1, _CLASSES + 1)]
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(doc="RGB, of any size"),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "label": tfds.features.ClassLabel(names=names),
                }
            ),
            supervised_keys=None,
            homepage="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
            citation=_CITATION,
        )

    def expected(self) -> dict[str, int]:
        return {"train": 1020, "validation": 1020, "test": 6149}

    def index(self, folder: Path) -> dict:
        require(folder, "jpg", "imagelabels.mat", "setid.mat", "text_c10")
        labels = _row(folder / "imagelabels.mat", "labels")
        parts = {split: _row(folder / "setid.mat", key) for split, key in _KEYS.items()}
        numbers = np.concatenate(list(parts.values()))
        refuse_repeats(folder / "setid.mat", [f"image {i}" for i in numbers])
        problems = [f"image {i}: no label for it" for i in numbers if not 1 <= i <= len(labels)]
        problems += [
            f"class {c}: not within 1 … {_CLASSES}"
            for c in set(labels.tolist())
            if not 1 <= c <= _CLASSES
        ]
        if problems:
            raise DataFolderError(folder / "imagelabels.mat", problems)
        return {
            split: {
                f"image_{i:05d}": {
                    "image": folder / "jpg" / f"image_{i:05d}.jpg",
                    "captions": folder / f"text_c10/class_{labels[i - 1]:05d}/image_{i:05d}.txt",
                    "label": int(labels[i - 1]) - 1,
                }
                for i in part.tolist()
            }
            for split, part in parts.items()
        }


def _row(path: Path, key: str) -> np.ndarray:
    """The integers of a MATLAB variable as a vector."""
    found = mat_variable(path, key)
    try:
        return found.ravel().astype(np.int64)
    except (ValueError, TypeError) as error:
        raise undecodable(path, f"the integers {key!r}", error) from error
