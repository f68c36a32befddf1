"""SUN RGB-D: indoor scenes of 19 classes in colour and depth, from four kinds of sensor."""

import io
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from unirep_jax.data.builders._manual import (
    DataFolderError,
    ManualBuilder,
    check_pixels,
    image_bytes,
    refuse_repeats,
    require,
    text,
)
from unirep_jax.data.builders._mat import mat_variable
from unirep_jax.data.files import read_bytes
from unirep_jax.data.limits import IMAGE_BYTES

_CITATION = """@inproceedings{song2015sun,
  title={{SUN RGB-D}: A {RGB-D} scene understanding benchmark suite},
  author={Song, Shuran and Lichtenberg, Samuel P and Xiao, Jianxiong},
  booktitle={CVPR},
  year={2015}
}"""
# Those with more than 80 images.
SCENES = (
    "bathroom",
    "bedroom",
    "classroom",
    "computer_room",
    "conference_room",
    "corridor",
    "dining_area",
    "dining_room",
    "discussion_area",
    "furniture_store",
    "home_office",
    "kitchen",
    "lab",
    "lecture_theatre",
    "library",
    "living_room",
    "office",
    "rest_space",
    "study_space",
)
_SPLIT_FILE = "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
_DEPTH_BITS = 3  # by which the stored depth is rotated


def _depth_png(path: Path) -> bytes:
    """Depth in millimetres as a 16-bit PNG; the stored bits are rotated back."""
    try:
        with Image.open(io.BytesIO(read_bytes(path, IMAGE_BYTES)), formats=("PNG",)) as image:
            check_pixels(image)
            stored = np.asarray(image)
    except Exception as error:  # damaged files raise of every kind
        found = f"expected a whole image, found {type(error).__name__}: {error}"
        raise DataFolderError(path, [found]) from error
    if stored.ndim != 2 or stored.dtype.kind not in "iu" or stored.dtype.itemsize < 2:
        found = f"{stored.dtype} {stored.shape}"
        raise DataFolderError(path, [f"expected one channel of 16 bits, found {found}"])
    stored = stored.astype(np.uint16)
    stream = io.BytesIO()
    rotated = (stored >> _DEPTH_BITS) | (stored << (16 - _DEPTH_BITS))
    Image.fromarray(rotated).save(stream, "PNG")
    return stream.getvalue()


class SunRgbdScenes(ManualBuilder):
    """Image and depth of the 19 scene classes with more than 80 images, in the official parts.

    Depth is the refined one (depth_bfx), in millimetres. Frames of one place in the SUN3D videos
    are one group; every other frame is a group of its own.

    Of TFDS's readers, `as_data_source` decodes 16 bits with OpenCV alone, `as_dataset` by itself;
    `raw_features` needs neither.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      SUNRGBD/{kv1,kv2,realsense,xtion}/.../{image,depth_bfx,scene.txt}
      SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"""
    READERS: ClassVar = {"image": image_bytes, "depth": _depth_png}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(doc="RGB, of any size"),
                    "depth": tfds.features.Image(
                        shape=(None, None, 1), dtype=np.uint16, doc="millimetres"
                    ),
                    "label": tfds.features.ClassLabel(names=SCENES),
                    "group": tfds.features.Scalar(np.int64),
                }
            ),
            supervised_keys=None,
            homepage="https://rgbd.cs.princeton.edu",
            citation=_CITATION,
        )

    def expected(self) -> dict[str, int]:
        return {"train": 4845, "test": 4659}

    def index(self, folder: Path) -> dict:
        require(folder, "SUNRGBD", _SPLIT_FILE)
        parts = {
            "train": _listed(folder / _SPLIT_FILE, "alltrain"),
            "test": _listed(folder / _SPLIT_FILE, "alltest"),
        }
        frames = [frame for part in parts.values() for frame in part]
        refuse_repeats(folder / _SPLIT_FILE, frames)
        group = {name: i for i, name in enumerate(sorted({_place(frame) for frame in frames}))}
        splits: dict[str, dict[str, dict[str, Any]]] = {}
        missing: list[str] = []
        for split, part in parts.items():
            splits[split] = {}
            for frame in part:
                scene = folder / "SUNRGBD" / frame / "scene.txt"
                if not scene.exists():
                    missing.append(f"SUNRGBD/{frame}/scene.txt: missing")
                elif (label := text(scene).strip()) in SCENES:
                    splits[split][frame] = {
                        "image": _only_file(scene.parent / "image"),
                        "depth": _only_file(scene.parent / "depth_bfx"),
                        "label": label,
                        "group": group[_place(frame)],
                    }
        if missing and not self.builder_config.partial:
            raise DataFolderError(folder, missing)
        return splits


def _only_file(folder: Path) -> Path:
    """The file of a folder that holds one; where it does not, a path that is reported missing."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return files[0] if len(files) == 1 else folder / "(one file)"


def _place(frame: str) -> str:
    """What frames of one video have in common."""
    return frame.rpartition("/")[0] if "/sun3ddata/" in frame else frame


def _listed(path: Path, key: str) -> list[str]:
    """Frames of a part, relative to the folder SUNRGBD; in the file they are absolute."""
    cells = mat_variable(path, key).ravel()
    try:
        return [str(cell[0]).rpartition("SUNRGBD/")[2].strip("/") for cell in cells]
    except Exception as error:  # damaged files raise of every kind
        found = f"expected the paths {key!r}, found {type(error).__name__}: {error}"
        raise DataFolderError(path, [found]) from error
