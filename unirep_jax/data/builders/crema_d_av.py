"""CREMA-D: six emotions acted by 91 people in twelve sentences, seen and heard."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from unirep_jax.data.builders._manual import (
    CopyConfig,
    DataFolderError,
    ManualBuilder,
    image_bytes,
    refuse_repeats,
    require,
    undecodable,
)
from unirep_jax.data.builders._tables import rows
from unirep_jax.data.files import read_bytes
from unirep_jax.data.limits import SOUND_BYTES
from unirep_jax.data.wav import parse_wav

_CITATION = """@article{cao2014crema,
  title={{CREMA-D}: Crowd-sourced emotional multimodal actors dataset},
  author={Cao, Houwei and Cooper, David G and Keutmann, Michael K and Gur, Ruben C and Nenkova, Ani and Verma, Ragini},
  journal={IEEE Transactions on Affective Computing},
  year={2014}
}"""  # noqa: E501
_CLIP = re.compile(r"(\d{4})_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}")
_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
_FRAMES = "Image-01-FPS"
# Every fifth of the actors 1001 … 1091: ten men and eight women. This choice is ours, none is
# published.
TEST_ACTORS = tuple(range(1002, 1092, 5))


@dataclasses.dataclass(eq=False)
class CremaDConfig(CopyConfig):
    """split: 'speakers' keeps people apart, 'ogm_ge' takes the lists of the authors of OGM-GE."""

    split: str = "speakers"


_SPEAKERS = "Nobody is heard in both parts: the test part is every fifth actor."
_OGM_GE = "The lists published with OGM-GE: clips divided at random, so all people are in both."


def _samples(path: Path) -> np.ndarray:
    """The int16 samples of a mono file at 16 kHz."""
    try:
        sound = parse_wav(read_bytes(path, SOUND_BYTES))
    except (ValueError, OSError) as error:
        raise undecodable(path, "a whole WAV file", error) from error
    if sound.rate != CremaDAv.SAMPLE_RATE or sound.channels != 1:
        found = f"{sound.rate} Hz, {sound.channels} channels"
        raise DataFolderError(path, [f"expected 16000 Hz, mono, found {found}"])
    if not len(sound.samples):
        raise DataFolderError(path, ["expected sound, found no sample"])
    return sound.samples[:, 0]


def _frames(path: Path) -> list[bytes]:
    """One image for each second: the files of a folder, or decoded from a video."""
    if path.is_dir():
        return [image_bytes(file) for file in sorted(path.iterdir())]
    import av

    frames: list[bytes] = []
    try:
        with av.open(str(path), format="flv") as container:  # no playlist
            for frame in container.decode(video=0):
                if frame.time is None or frame.time >= len(frames):
                    frames.append(_jpeg(frame.to_image()))
    except Exception as error:  # damaged files raise of every kind
        found = f"expected a whole video, found {type(error).__name__}: {error}"
        raise DataFolderError(path, [found]) from error
    if not frames:
        raise DataFolderError(path, ["expected a video, found no frame"])
    return frames


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=95)
    return stream.getvalue()


class CremaDAv(ManualBuilder):
    """Sound and one video frame a second; group is the actor.

    Videos are Flash files. They are decoded with the package `av` (PyAV), which this library does
    not install. Without it, extract one frame a second with any other tool into the folder
    Image-01-FPS, which is preferred where it exists. For sound alone use `crema_d` of TFDS.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put into manual_dir:
      AudioWAV/1001_DFA_ANG_XX.wav ... (through Git LFS: plain archives hold pointers only)
      VideoFlash/1001_DFA_ANG_XX.flv ..., for which `pip install av` is needed,
        or frames at 1 Hz, Image-01-FPS/1001_DFA_ANG_XX/*.jpg ...
      for the 'ogm_ge' configs also train.csv and test.csv, rows of clip, emotion"""
    SAMPLE_RATE = 16000
    READERS: ClassVar = {"audio": _samples, "frames": _frames}
    BUILDER_CONFIGS: ClassVar = [
        CremaDConfig(name="speakers", description=_SPEAKERS),
        CremaDConfig(name="speakers_partial", description=_SPEAKERS, partial=True),
        CremaDConfig(name="ogm_ge", description=_OGM_GE, split="ogm_ge"),
        CremaDConfig(name="ogm_ge_partial", description=_OGM_GE, split="ogm_ge", partial=True),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, doc="16 kHz"),
                    "frames": tfds.features.Sequence(tfds.features.Image(), doc="one a second"),
                    "label": tfds.features.ClassLabel(names=_EMOTIONS),
                    "group": tfds.features.Scalar(np.int64, doc="the actor, 1001 … 1091"),
                }
            ),
            supervised_keys=None,
            homepage="https://github.com/CheyneyComputerScience/CREMA-D",
            citation=_CITATION,
        )

    def expected(self) -> dict[str, int]:
        if self.builder_config.split == "ogm_ge":
            return {"train": 6698, "test": 744}
        return {"train": 5967, "test": 1475}

    def index(self, folder: Path) -> dict:
        listed = self.builder_config.split == "ogm_ge"
        require(folder, "AudioWAV", *(["train.csv", "test.csv"] if listed else []))
        extracted = (folder / _FRAMES).is_dir()
        video, suffix = (_FRAMES, "") if extracted else ("VideoFlash", ".flv")
        if not extracted:
            _require_decoder(folder)
        if listed:
            parts = {split: _listed(folder / f"{split}.csv") for split in ("train", "test")}
            refuse_repeats(folder, [clip for part in parts.values() for clip in part])
        else:
            clips = {path.stem for path in (folder / "AudioWAV").glob("*.wav")}
            clips |= {path.name.removesuffix(".flv") for path in (folder / video).iterdir()}
            parts = _by_actor(folder, sorted(clips))
        return {
            split: {
                clip: _example(
                    clip, folder / "AudioWAV" / f"{clip}.wav", folder / video / f"{clip}{suffix}"
                )
                for clip in clips
            }
            for split, clips in parts.items()
        }


def _require_decoder(folder: Path) -> None:
    """VideoFlash exists and can be decoded, or an error says what is possible instead."""
    if not (folder / "VideoFlash").is_dir():
        raise DataFolderError(folder, [f"neither VideoFlash nor {_FRAMES} is there"])
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{folder / 'VideoFlash'} holds Flash videos, which the package `av` decodes: "
            f"pip install av, or extract frames at 1 Hz into {_FRAMES}/CLIP/*.jpg with another tool"
        ) from error


def _by_actor(folder: Path, clips: list[str]) -> dict[str, list[str]]:
    odd = [
        f"{clip}: not named ACTOR_SENTENCE_EMOTION_LEVEL"
        for clip in clips
        if not _CLIP.fullmatch(clip)
    ]
    if odd:
        raise DataFolderError(folder, odd)
    return {
        "train": [clip for clip in clips if int(clip[:4]) not in TEST_ACTORS],
        "test": [clip for clip in clips if int(clip[:4]) in TEST_ACTORS],
    }


def _listed(path: Path) -> list[str]:
    """The clips of a list, whose second column says what their names say."""
    listed = rows(path)
    wrong = []
    for row in listed:
        match = _CLIP.fullmatch(row[0])
        if not match or len(row) < 2 or match[2] != row[1].strip():
            wrong.append(f"row {','.join(row)!r}: expected a clip and its emotion")
    if wrong:
        raise DataFolderError(path, wrong)
    refuse_repeats(path, [row[0] for row in listed])
    return [row[0] for row in listed]


def _example(clip: str, audio: Path, frames: Path) -> dict[str, Any]:
    actor, _, emotion, _ = clip.split("_")
    return {"audio": audio, "frames": frames, "label": emotion, "group": int(actor)}
