"""From a TFDS builder of images, sound and text to features on disk, made once and then mapped."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.features import FeatureFileError, FeatureSet, load_features, save_features
from unirep_jax.data.files import read_text, user_path
from unirep_jax.data.kinds import Kind
from unirep_jax.data.limits import TEXT_BYTES
from unirep_jax.data.mapped import scratch_array
from unirep_jax.data.recipe import check_recipe
from unirep_jax.data.words import build_vocabulary, split_words, word_ids
from unirep_jax.progress_bar import Bar

_RECIPE = "recipe.json"
_READ_AHEAD = 64  # examples decoded together
_RATE, _SECONDS, _WINDOW, _HOP = 22050, 3, 512, 353  # of the spectrogram
_Shape = tuple[int, ...]


def prepare(
    builder_class: type, manual_dir: str | Path, data_dir: str | Path, config: str | None = None
) -> Any:
    """The builder, after TFDS has read `manual_dir` into its own files below `data_dir` (once).

    Args:
      builder_class: one of `unirep_jax.data.builders`.
      manual_dir: where the data set is, as the class's MANUAL_DOWNLOAD_INSTRUCTIONS say.
      data_dir: where TFDS keeps what it prepares.
      config: name of one of the class's configs, by default the first.

    Raises:
      DataFolderError: the folder is not as it should be.
    """
    import tensorflow_datasets as tfds

    # array_record, unlike the default, is written and read without TensorFlow.
    builder = builder_class(config=config, data_dir=str(data_dir), file_format="array_record")
    download = tfds.download.DownloadConfig(manual_dir=str(manual_dir))
    builder.download_and_prepare(download_config=download)
    return builder


def raw_features(
    builder: Any,
    folder: str | Path,
    *,
    train: str = "train",
    test: str = "test",
    image_size: int = 64,
    num_frames: int = 3,
    num_words: int = 32,
    min_count: int = 2,
) -> FeatureSet:
    """The examples of a prepared builder as memory-mapped features in `folder`, made if not there.

    Beside the features the folder holds recipe.json, with the settings and the vocabulary
    (`load_vocabulary`), and examples.txt, with the id of each row. Training rows come first.

    Args:
      builder: what `prepare` returns.
      folder: a new folder, or one that the same call has made before.
      train, test: TFDS splits, for instance "train+validation".
      image_size: side of the square that is cut from the middle of an image, after resizing.
      num_frames: of each video, evenly spaced; the last ones repeat in a shorter video.
      num_words: of each text; longer ones are cut. Captions of one image are joined to one text.
      min_count: how often a word occurs in the training texts to be in the vocabulary.

    Returns:
      Those of these modalities that the builder has, and its groups if it has any:
      image [example, 1, size, size, 3] and video [example, frame, size, size, 3], float16 in 0 … 1;
      depth [example, 1, size, size, 1], float16 metres;
      audio [example, 188, 257], float16, a spectrogram, see `log_spectrogram`;
      text [example, num_words], int32 word ids (0 = padding, 1 = unknown) for an embedding. An
      empty text is absent.

    Raises:
      FileExistsError: the folder exists and was made differently.
    """
    folder = user_path(folder)
    settings = {
        "dataset": builder.info.full_name,
        "train": train,
        "test": test,
        "image_size": image_size,
        "num_frames": num_frames,
        "num_words": num_words,
        "min_count": min_count,
    }
    if folder.exists():
        check_recipe(folder / _RECIPE, settings, maker="raw_features")
        return load_features(folder, builder.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    source = _Source(builder, train, test)
    arrays, columns, texts = _convert_all(builder, source, folder.parent, image_size, num_frames)
    is_train = np.arange(len(source)) < source.num_train
    present, vocabulary = {}, ()
    if texts is not None:
        vocabulary = build_vocabulary(
            (text[:num_words] for text in texts[: source.num_train]), min_count=min_count
        )
        arrays["text"] = word_ids(texts, vocabulary, num_words)
        present["text"] = np.array([bool(text) for text in texts])
    feature_set = FeatureSet.from_arrays(
        builder.name,
        arrays,
        columns["label"],
        is_train,
        present=present,
        group=columns.get("group"),
        class_names=tuple(builder.info.features["label"].names),
        kinds={"audio": Kind.SPECTROGRAM} if "audio" in arrays else None,
    )
    _write(folder, feature_set, settings | {"vocabulary": vocabulary}, columns["id"])
    return load_features(folder, builder.name)


def load_vocabulary(folder: str | Path) -> tuple[str, ...]:
    """The words behind the ids of `raw_features`: word i has id i; empty if there is no text.

    Raises:
      FeatureFileError: the folder has no such list.
      OSError: it has no recipe.json.
    """
    path = user_path(folder) / _RECIPE
    try:
        return tuple(map(str, json.loads(read_text(path, TEXT_BYTES))["vocabulary"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise FeatureFileError(path, "vocabulary", "a list of words", found) from error


def log_spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """float32 [188, 257]: logarithmic short-time spectrum of three seconds of sound.

        log( |STFT(x)| + 10⁻⁷ )

    with x the sound at 22,050 Hz, repeated (or cut) to 3 s and limited to −1 … 1; a Hann window of
    512 samples every 353, the sound reflected at both ends so that windows are centred.

    Args:
      wave: int16, or floats within −1 … 1, [sample], at least one.
      rate: samples a second.

    Reference: Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR
    2022, whose code has these numbers for CREMA-D. ≠ there, the resampling filter is librosa's.
    """
    from scipy.signal import resample_poly

    x = wave / 32768 if wave.dtype == np.int16 else np.asarray(wave, np.float64)
    divisor = np.gcd(rate, _RATE)
    x = resample_poly(x, _RATE // divisor, rate // divisor)
    x = np.clip(np.resize(x, _RATE * _SECONDS), -1, 1)  # np.resize repeats
    x = np.pad(x, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1])
    return np.log(np.abs(spectrum) + 1e-7).astype(np.float32)


class _Source:
    """The examples of two splits, one after the other, images of whole examples not yet decoded."""

    def __init__(self, builder: Any, train: str, test: str):
        import tensorflow_datasets as tfds

        decoders = {
            name: tfds.decode.SkipDecoding()
            for name in ("image", "depth")
            if name in builder.info.features
        }
        self._parts = [builder.as_data_source(s, decoders=decoders or None) for s in (train, test)]
        self.num_train = len(self._parts[0])

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        first, second = self._parts
        n = self.num_train
        return [
            *first.__getitems__(range(start, min(stop, n))),
            *second.__getitems__(range(max(start - n, 0), max(stop - n, 0))),
        ]


def _convert_all(
    builder: Any, source: _Source, scratch: Path, image_size: int, num_frames: int
) -> tuple[dict[str, np.ndarray], dict[str, Any], list[list[str]] | None]:
    """Every example once: modality -> array on disk, the plain columns, and the words of texts."""
    rate: int = getattr(builder, "SAMPLE_RATE", 0)  # of a builder with sounds
    frames = (1 + _RATE * _SECONDS // _HOP, _WINDOW // 2 + 1)
    side = (image_size, image_size)
    # feature of the builder -> modality, shape, and how to make it
    known: dict[str, tuple[str, _Shape, Callable]] = {
        "image": ("image", (1, *side, 3), lambda x: _square(x, image_size)),
        "depth": ("depth", (1, *side, 1), lambda x: _square_depth(x, image_size)),
        "frames": ("video", (num_frames, *side, 3), lambda x: _video(x, image_size, num_frames)),
        "audio": ("audio", frames, lambda x: log_spectrogram(x, rate)),
    }
    features = builder.info.features
    made = {name: known[name] for name in known if name in features}
    arrays: dict[str, np.ndarray] = {
        modality: scratch_array((len(source), *shape), np.float16, scratch)
        for modality, shape, _ in made.values()
    }
    text_key = next((name for name in ("text", "captions") if name in features), None)
    columns: dict[str, Any] = {"id": [], "label": []} | (
        {"group": []} if "group" in features else {}
    )
    texts: list[list[str]] = []

    def convert(place: tuple[int, dict]) -> None:
        row, example = place
        for name, (modality, _, make) in made.items():
            arrays[modality][row] = make(example[name])

    starts = range(0, len(source), _READ_AHEAD)
    with ThreadPoolExecutor() as pool, Bar(builder.name, len(source), "examples") as bar:
        for start in starts:
            examples = source.read(start, min(start + _READ_AHEAD, len(source)))
            list(pool.map(convert, enumerate(examples, start)))  # the list raises what they raise
            for example in examples:
                for name, values in columns.items():
                    values.append(example[name])
                if text_key is not None:
                    texts.append(split_words(_text(example[text_key])))
            bar.update(len(examples))
    columns = {k: v if k == "id" else np.array(v, np.int64) for k, v in columns.items()}
    return arrays, columns, texts if text_key is not None else None


def _text(value: bytes | Sequence[bytes]) -> str:
    lines = [value] if isinstance(value, bytes) else list(value)
    return " ".join(line.decode("utf-8") for line in lines)


def _square(content: bytes | np.ndarray, size: int) -> np.ndarray:
    """[size, size, 3] in 0 … 1: the middle of an image, resized with averaging."""
    from PIL import Image, ImageOps

    if isinstance(content, bytes):
        image = Image.open(io.BytesIO(content))
        image.draft("RGB", (2 * size, 2 * size))  # JPEG: decode no finer than needed
    else:
        image = Image.fromarray(content)
    square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square, np.float32) / 255


def _square_depth(content: bytes, size: int) -> np.ndarray:
    """[size, size, 1] in metres, the same part as `_square`; depths are picked, not averaged."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        metres = Image.fromarray(np.asarray(image, np.float32) / 1000)
    square = ImageOps.fit(metres, (size, size), Image.Resampling.NEAREST)
    return np.asarray(square)[..., None]


def _video(frames: Sequence[np.ndarray], size: int, count: int) -> np.ndarray:
    """[count, size, size, 3]: evenly spaced frames; of too few, some twice."""
    places = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return np.stack([_square(frames[i], size) for i in places])


def _write(folder: Path, feature_set: FeatureSet, recipe: dict[str, Any], ids: list) -> None:
    """Everything beside `folder`, then renamed, so a reader sees all or nothing."""
    beside = folder.with_name(f".{folder.name}.incomplete")
    shutil.rmtree(beside, ignore_errors=True)  # of a call that was ended
    try:
        save_features(beside, feature_set)
        lines = [(i.decode("utf-8") if isinstance(i, bytes) else i) + "\n" for i in ids]
        (beside / "examples.txt").write_text("".join(lines), "utf-8")
        (beside / _RECIPE).write_text(json.dumps(recipe, indent=1, ensure_ascii=False), "utf-8")
        beside.replace(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
