"""What builders of published features share: ten seconds of each modality, read and checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.builders._h5 import H5Row
from unirep_jax.data.builders._manual import ManualBuilder
from unirep_jax.data.pickled_array import read_zipped_array
from unirep_jax.data.published_shapes import AUDIO, SECONDS, VIDEO

ANNOTATED = {"audio": AUDIO, "video": VIDEO}


class OpenSetCounts(NamedTuple):
    """How many examples an open-set protocol has when the first `known` classes are known.

    train: of the source modality and a known class; test_known, test_unknown: of the target.
    """

    source: str
    target: str
    known: int
    train: int
    test_known: int
    test_unknown: int


class FeatureBuilder(ManualBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder of features that others have extracted.

    `index` gives for each example a value of every modality: the path of a zip file, an `H5Row`, an
    array, or None where the example does not have it; `label`, a class number or −1; `group` where
    GROUPED; and where EVENTS, `events`: modality -> bool [second, class] or None.
    """

    SHAPES: ClassVar[dict[str, tuple[int, ...]]] = ANNOTATED
    # How sequences of another length are fitted, see `fit_steps`; "exact" of those not named.
    FITTED: ClassVar[dict[str, str]] = {"audio": "cut"}
    GROUPED: ClassVar[bool] = False
    EVENTS: ClassVar[bool] = False
    CAPTIONS: ClassVar[str] = ""  # a modality of which one group has several examples
    # What training and test are made of, splits joined by "+"; the first is the default.
    PARTS: ClassVar[dict[str, tuple[str, str]]] = {"official": ("train", "test")}
    OPEN_SETS: ClassVar[dict[str, tuple[OpenSetCounts, ...]]] = {}  # by part

    part = ""  # the one that is converted, of PARTS; of "" the first

    def choose(self, *, steps: int = 0, modalities: Sequence[str] = ()) -> dict[str, Any]:
        """What of features of the user's own is converted; as it stands in the recipe.

        Raises:
          ValueError: the features are published ones, of which there is nothing to choose.
        """
        if steps or modalities:
            raise ValueError(f"{self.name}: steps and modalities are those of the published set")
        return {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of an example, in this configuration."""
        return self.SHAPES

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, known once `index` has run."""
        return tuple(self.info.features["label"].names or ())

    def expected(self) -> dict[str, int]:
        return {}

    def features(self, example: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The features of an example in memory: float32, zero where absent.

        Raises:
          FeatureFileError: a feature is not of the published shape, or not finite.
        """
        return {m: self._feature(m, example[m], shape) for m, shape in self.shapes().items()}

    def columns(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """All that is known of an example without reading its features."""
        modalities = self.shapes()
        found: dict[str, Any] = {
            "present": {m: example[m] is not None for m in modalities},
            "label": example["label"],
        }
        if self.GROUPED:
            found["group"] = example["group"]
        if self.EVENTS:
            nothing = np.zeros((SECONDS, len(self.class_names())), bool)
            events = example["events"]
            found["events"] = {m: nothing if events[m] is None else events[m] for m in modalities}
            found["labelled"] = {m: events[m] is not None for m in modalities}
        return found

    def _feature(self, modality: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        if value is None:
            return np.zeros(shape, np.float32)
        array, place = value, place_of(value, modality)
        if isinstance(value, Path):
            array = read_zipped_array(value)
        elif isinstance(value, H5Row):
            array = value.read()
        array = fit_steps(array, shape, self.FITTED.get(modality, "exact"), place)
        with np.errstate(over="ignore"):  # float64 beyond float32 is infinite to the reader
            array = np.asarray(array, np.float32)
        if not np.isfinite(array).all():
            wrong = array.flat[np.argmin(np.isfinite(array))]
            raise FeatureFileError(place, None, "finite float32 values", str(wrong))
        return array

    def _generate_examples(self, examples: Mapping[str, Mapping[str, Any]]):
        for key, example in examples.items():
            yield key, {"id": key, "features": self.features(example)} | self.columns(example)

    def feature_info(self, *, classes: int, homepage: str, citation: str) -> tfds.core.DatasetInfo:
        """The description of these features for TFDS; `index` names the classes."""
        shapes = self.shapes()
        content = {
            "id": tfds.features.Text(),
            "features": {
                m: tfds.features.Tensor(shape=shape, dtype=np.float32)
                for m, shape in shapes.items()
            },
            "present": {m: tfds.features.Scalar(np.bool_) for m in shapes},
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
        if self.GROUPED:
            content["group"] = tfds.features.Scalar(np.int64)
        if self.EVENTS:
            content["events"] = {
                m: tfds.features.Tensor(shape=(SECONDS, classes), dtype=np.bool_) for m in shapes
            }
            content["labelled"] = {m: tfds.features.Scalar(np.bool_) for m in shapes}
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(content),
            supervised_keys=None,
            homepage=homepage,
            citation=citation,
        )


def fit_steps(array: np.ndarray, shape: tuple[int, ...], how: str, place: Any) -> np.ndarray:
    """A sequence of any length as one of `shape`, [time, ...].

    Args:
      array: [any, ...], floats.
      shape: with the length that is wanted.
      how: "exact" changes nothing; "cut" repeats the last step of a shorter sequence and cuts a
        longer one, as the authors do; "spread" takes evenly spaced steps from first to last.
      place: what an error names.

    Raises:
      FeatureFileError: not such a sequence, one without steps, or another length under "exact".
    """
    length = str(shape[0]) if how == "exact" else "time"
    expected = f"floats ({', '.join([length, *map(str, shape[1:])])})"
    good = array.dtype.kind == "f" and array.ndim == len(shape) and array.shape[1:] == shape[1:]
    if not good or len(array) == 0 or (how == "exact" and len(array) != shape[0]):
        raise FeatureFileError(place, None, expected, f"{array.dtype} {array.shape}")
    if how == "spread":
        return array[np.linspace(0, len(array) - 1, shape[0]).round().astype(int)]
    return array[np.minimum(np.arange(shape[0]), len(array) - 1)]


def place_of(value: Any, modality: str) -> str:
    """What an error calls a value of `index`: its file, and the row where the file has several."""
    if isinstance(value, H5Row):
        return f"{value.path}: row {value.row}"
    return str(value) if isinstance(value, Path) else modality


def zipped(folder: Path, modality: str, name: str) -> Path:
    """Where the feature of a clip lies below a folder of features."""
    return folder / modality / "zip" / f"{name}.zip"
