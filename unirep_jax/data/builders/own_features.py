"""Captioned sets with features of the user's own: published annotations, a `.npy` file a clip."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from unirep_jax.data.archive import FeatureFileError, load_array, reading_errors
from unirep_jax.data.builders._features import FeatureBuilder, fit_steps
from unirep_jax.data.builders._manual import DataFolderError, lines, refuse_repeats, require
from unirep_jax.data.builders._tables import check_ids
from unirep_jax.data.builders._text_vectors import TextVectors
from unirep_jax.data.files import open_regular
from unirep_jax.data.npy_header import read_npy_header

TEXT = "text"
_ABSENT = "absent.txt"


class Split(NamedTuple):
    """Where the clips of a split are listed, and how many captions the published one has.

    files: relative to the folder. clips: these files -> the captions of each clip by its name.
    """

    files: tuple[str, ...]
    clips: Callable[..., dict[str, list[str]]]
    captions: int


class OwnFeatures(FeatureBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder that has the published list of clips and captions, and features of any model.

    feature/MODALITY/CLIP.npy holds floats [dim] or [time, dim], of one shape for all clips of a
    modality; clips that do not have it, as those without a sound track, are named in
    feature/MODALITY/absent.txt, one a line. text_vectors holds the captions', [text, dim] or
    [text, token, dim]. An example is a caption; those of a clip are a group.
    """

    GROUPED = True
    CAPTIONS = TEXT
    SPLITS: ClassVar[dict[str, Split]]
    HOMEPAGE: ClassVar[str]

    _steps = 0
    _modalities: tuple[str, ...] = ()
    _shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012  # of an instance once `index` has run

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, description=type(self).__doc__, homepage=self.HOMEPAGE
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        raise ValueError(
            f"{self.name} has features of any shape, which TFDS cannot hold: convert it with "
            "python -m unirep_jax.data.prepare"
        )

    def choose(self, *, steps: int = 0, modalities: Sequence[str] = ()) -> dict[str, Any]:
        if steps < 0:
            raise ValueError(f"steps={steps} is negative")
        self._steps, self._modalities = steps, tuple(modalities)
        return {"steps": steps, "modalities": list(modalities)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def class_names(self) -> tuple[str, ...]:
        return ()

    def expected(self) -> dict[str, int]:
        return {name: self.SPLITS[name].captions for name in self._wanted()}

    def _wanted(self) -> list[str]:
        """The splits that the part is made of."""
        train, test = self.PARTS[self.part or next(iter(self.PARTS))]
        return [name for names in (train, test) for name in names.split("+") if name]

    def index(self, folder: Path) -> dict:
        wanted = {name: self.SPLITS[name] for name in self._wanted()}
        files = dict.fromkeys(file for split in wanted.values() for file in split.files)
        require(folder, *files, "feature")
        parts = {
            name: split.clips(*(folder / file for file in split.files))
            for name, split in wanted.items()
        }
        for name, clips in parts.items():
            check_ids(folder / wanted[name].files[-1], clips)
        vectors = TextVectors(folder, None)
        vectors.check(
            text for clips in parts.values() for texts in clips.values() for text in texts
        )
        names = dict.fromkeys(name for clips in parts.values() for name in clips)
        found = self._found(folder / "feature", names)
        self._shapes = self._shapes_of(found) | {TEXT: vectors.shape}
        number = {name: place for place, name in enumerate(names)}
        return {
            split: {
                key: {m: files[name] for m, files in found.items()}
                | {TEXT: vectors[text], "label": -1, "group": number[name]}
                for name, texts in clips.items()
                for key, text in _keys(name, texts)
            }
            for split, clips in parts.items()
        }

    def _found(self, folder: Path, names: Mapping[str, Any]) -> dict[str, dict[str, Path | None]]:
        """modality -> clip -> its file, None where the modality is absent."""
        there = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
        wanted = [m for m in self._modalities if m != TEXT] or there
        missing = [f"{m}: no such folder" for m in wanted if m not in there]
        if missing or not there or TEXT in there:
            text = [f"{TEXT}: is the modality of captions"] if TEXT in there else []
            raise DataFolderError(folder, missing or text or ["no folder of a modality"])
        return {m: self._files(folder / m, names) for m in wanted}

    def _files(self, folder: Path, names: Mapping[str, Any]) -> dict[str, Path | None]:
        absent: set[str] = set()
        if (folder / _ABSENT).exists():
            absent = {*lines(folder / _ABSENT)}
        files = {name: None if name in absent else folder / f"{name}.npy" for name in names}
        if not any(files.values()):
            raise DataFolderError(folder, [f"{_ABSENT} names every clip"])
        return files

    def _shapes_of(self, found: dict[str, dict[str, Path | None]]) -> dict[str, tuple[int, ...]]:
        """Of each modality that of the first file that is there, with the steps that were asked."""
        shapes = {}
        for modality, files in found.items():
            first = next((file for file in files.values() if file and file.exists()), None)
            if first is None:
                raise DataFolderError(next(iter(filter(None, files.values()))).parent, ["no file"])
            with reading_errors(first, None, "a plain .npy array"), open_regular(first) as stream:
                shape = read_npy_header(stream).shape
            if len(shape) not in (1, 2) or 0 in shape:
                raise FeatureFileError(first, None, "floats (dim) or (time, dim)", str(shape))
            shapes[modality] = (self._steps, *shape[1:]) if self._steps and shape[1:] else shape
        return shapes

    def _feature(self, modality: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        if not isinstance(value, Path):
            return super()._feature(modality, value, shape)
        array = load_array(value)
        spread = "spread" if self._steps and len(shape) > 1 else "exact"
        return super()._feature(modality, fit_steps(array, shape, spread, value), shape)


def _keys(name: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """The key of each caption: the clip's name, numbered where there are several."""
    if len(texts) == 1:
        return [(name, texts[0])]
    return [(f"{name}#{place}", text) for place, text in enumerate(texts, 1)]


def by_clip(path: Path, rows: Sequence[tuple[Any, Any]]) -> dict[str, list[str]]:
    """Clip -> its captions, of rows of both in their order.

    Raises:
      DataFolderError: a name or caption is no text, or empty.
    """
    captions: dict[str, list[str]] = {}
    wrong = []
    for place, (name, text) in enumerate(rows):
        if not (isinstance(name, str) and isinstance(text, str) and name and text.strip()):
            wrong.append(f"caption {place}: expected a clip and a text, found {name!r}, {text!r}")
        else:
            captions.setdefault(name, []).append(text)
    if wrong:
        raise DataFolderError(path, wrong)
    return captions


def once(path: Path, names: Sequence[str]) -> Sequence[str]:
    """The names, of which none comes twice."""
    refuse_repeats(path, names)
    return names
