"""MSR-VTT, AudioCaps, VATEX and Clotho with features of the user's own, for retrieval."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from unirep_jax.data.builders._manual import DataFolderError
from unirep_jax.data.builders._tables import records, table
from unirep_jax.data.builders.own_features import OwnFeatures, Split, by_clip, once

_FEATURES = """feature/MODALITY/CLIP.npy for every clip and modality, [dim] or [time, dim]
      text_vectors.npz with the vectors of every caption, [text, dim] or [text, token, dim]"""


def _msrvtt_captions(path: Path) -> dict[str, list[str]]:
    rows = records(path, "video_id", "caption", within="sentences")
    return by_clip(path, [(row["video_id"], row["caption"]) for row in rows])


def _msrvtt_listed(content: Path, listed: Path) -> dict[str, list[str]]:
    """The clips that a table lists."""
    return _chosen(content, listed, [row["video_id"] for row in table(listed, "video_id")])


def _msrvtt_official(content: Path, *, split: str) -> dict[str, list[str]]:
    """The clips of which the file itself says the split."""
    videos = records(content, "video_id", "split", within="videos")
    chosen = [row["video_id"] for row in videos if row["split"] == split]
    if not chosen:
        raise DataFolderError(content, [f"no video of the split {split!r}"])
    return _chosen(content, content, chosen)


def _chosen(content: Path, listed: Path, names: list[str]) -> dict[str, list[str]]:
    captions = _msrvtt_captions(content)
    absent = [f"{name}: no caption in {content.name}" for name in names if name not in captions]
    if absent:
        raise DataFolderError(listed, absent)
    return {name: captions[name] for name in once(listed, names)}


def _sentences(path: Path, *, name: str, text: str) -> dict[str, list[str]]:
    """Of a table with a caption a row."""
    return by_clip(path, [(row[name], row[text]) for row in table(path, name, text)])


def _described(path: Path, *, name: str, texts: str) -> dict[str, list[str]]:
    """Of a list of clips with one caption or a list of them each."""
    rows = records(path, name, texts)
    once(path, [str(row[name]) for row in rows])
    each: list[tuple[Any, Any]] = []
    for row in rows:
        found = row[texts]
        each += [(row[name], text) for text in (found if isinstance(found, list) else [found])]
    return by_clip(path, each)


def _clotho_clips(path: Path) -> dict[str, list[str]]:
    columns = [f"caption_{i}" for i in range(1, 6)]
    rows = table(path, "file_name", *columns)
    names = once(path, [row["file_name"].removesuffix(".wav") for row in rows])
    return {
        name: [row[column] for column in columns] for name, row in zip(names, rows, strict=True)
    }


_MSRVTT, _GRAM = "MSRVTT_data.json", ("descs_ret_train.json", "descs_ret_test.json")
_of_gram = partial(_described, name="video_id", texts="desc")


class MsrVtt(OwnFeatures):
    """MSR-VTT: 10,000 clips with 20 captions each; the test of 1k-A has one caption a clip."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      MSRVTT_data.json; for 1k_a and 7k MSRVTT_train.9k.csv or MSRVTT_train.7k.csv (video_id) and
      MSRVTT_JSFUSION_test.csv (video_id, sentence); for gram only descs_ret_train.json and
      descs_ret_test.json, [{{"video_id": "...", "desc": "..."}}, ...]
      {_FEATURES}"""
    name = "msrvtt"
    HOMEPAGE = "https://www.microsoft.com/en-us/research/publication/msr-vtt"
    SPLITS: ClassVar = {
        "train_9k": Split((_MSRVTT, "MSRVTT_train.9k.csv"), _msrvtt_listed, 20 * 9000),
        "train_7k": Split((_MSRVTT, "MSRVTT_train.7k.csv"), _msrvtt_listed, 20 * 7010),
        "test_1k": Split(
            ("MSRVTT_JSFUSION_test.csv",),
            partial(_sentences, name="video_id", text="sentence"),
            1000,
        ),
        "train": Split((_MSRVTT,), partial(_msrvtt_official, split="train"), 20 * 6513),
        "validation": Split((_MSRVTT,), partial(_msrvtt_official, split="validate"), 20 * 497),
        "test": Split((_MSRVTT,), partial(_msrvtt_official, split="test"), 20 * 2990),
        "gram_train": Split(_GRAM[:1], _of_gram, 9000),
        "gram_test": Split(_GRAM[1:], _of_gram, 1000),
    }
    PARTS: ClassVar = {
        "1k_a": ("train_9k", "test_1k"),
        "7k": ("train_7k", "test_1k"),
        "official": ("train+validation", "test"),
        "gram": ("gram_train", "gram_test"),
        "zero_shot": ("", "test_1k"),
    }


class AudioCaps(OwnFeatures):
    """AudioCaps: one caption of a training clip, five of the others; clips are YouTube ids."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      train.csv, val.csv, test.csv (audiocap_id, youtube_id, start_time, caption)
      {_FEATURES}"""
    name = "audiocaps"
    HOMEPAGE = "https://audiocaps.github.io"
    SPLITS: ClassVar = {
        split: Split((f"{file}.csv",), partial(_sentences, name="youtube_id", text="caption"), n)
        for split, file, n in (
            ("train", "train", 49838),
            ("validation", "val", 5 * 495),
            ("test", "test", 5 * 975),
        )
    }
    PARTS: ClassVar = {
        "official": ("train", "test"),
        "all": ("train+validation", "test"),
        "zero_shot": ("", "test"),
    }


_of_vatex = partial(_described, name="videoID", texts="enCap")


class Vatex(OwnFeatures):
    """VATEX: ten English captions of each clip; Chinese ones are not read."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      vatex_training_v1.0.json, vatex_validation_v1.0.json, vatex_public_test_english_v1.1.json,
      [{{"videoID": "...", "enCap": ["...", ...]}}, ...]; for gram descs_ret_test.json,
      [{{"video_id": "...", "desc": ["...", ...]}}, ...] in place of the last
      {_FEATURES}"""
    HOMEPAGE = "https://eric-xw.github.io/vatex-website"
    SPLITS: ClassVar = {
        "train": Split(("vatex_training_v1.0.json",), _of_vatex, 259910),
        "validation": Split(("vatex_validation_v1.0.json",), _of_vatex, 30000),
        "test": Split(("vatex_public_test_english_v1.1.json",), _of_vatex, 60000),
        "gram_test": Split(_GRAM[1:], _of_gram, 15000),
    }
    PARTS: ClassVar = {
        "official": ("train", "test"),
        "validation": ("train", "validation"),
        "gram": ("train", "gram_test"),
        "zero_shot": ("", "test"),
        "zero_shot_gram": ("", "gram_test"),
    }


class Clotho(OwnFeatures):
    """Clotho 2: five captions of each clip; clips are file names without .wav."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put into manual_dir:
      clotho_captions_development.csv, clotho_captions_validation.csv,
      clotho_captions_evaluation.csv (file_name, caption_1, ..., caption_5)
      {_FEATURES}"""
    HOMEPAGE = "https://zenodo.org/records/4783391"
    SPLITS: ClassVar = {
        split: Split((f"clotho_captions_{split}.csv",), _clotho_clips, 5 * clips)
        for split, clips in (("development", 3839), ("validation", 1045), ("evaluation", 1045))
    }
    PARTS: ClassVar = {
        "official": ("development", "evaluation"),
        "all": ("development+validation", "evaluation"),
        "zero_shot": ("", "evaluation"),
    }
