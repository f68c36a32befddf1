"""Published annotations of images and their sounds: which belong together, and true boxes.

Images are frames/NAME.jpg and sounds audio/NAME.wav, as the loaders of EZ-VSL and SLAVC have them.
Boxes are x1, y1, x2, y2 in 0 … 1 from the upper left corner.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from unirep_jax.data.archive import FeatureFileError
from unirep_jax.data.files import read_text, split_lines
from unirep_jax.data.limits import SIDE_FILE_BYTES, TEXT_BYTES

Box = tuple[float, float, float, float]
FLICKR_SIZE = 256  # pixels a side of the images that its boxes are of
SILENT = "non-sounding"


class SoundImage(NamedTuple):
    """An image and a sound, relative to the folder of the set.

    id: once in a set. class_name: "" where there is none. boxes: of what sounds; () where nothing
    in the image does.
    """

    id: str
    image: str
    audio: str
    class_name: str = ""
    boxes: tuple[Box, ...] = ()


class Reader(NamedTuple):
    """What has to be in the folder, how it is read, and how many there are in the published set.

    located: whether images have boxes. agreement: annotators that make a pixel count in full.
    """

    files: tuple[str, ...]
    read: Callable[[Path], list[SoundImage]]
    published: int
    located: bool = True
    agreement: int = 1


def _text(path: Path, limit: int = TEXT_BYTES) -> str:
    try:
        return read_text(path, limit)
    except (OSError, ValueError) as error:
        raise FeatureFileError(path, None, "text in UTF-8", str(error)) from error


def read_json(path: Path) -> Any:
    """What an annotation file of JSON holds. Raises FeatureFileError: it is none."""
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FeatureFileError):
            raise
        raise FeatureFileError(path, None, "JSON", f"{type(error).__name__}: {error}") from error


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in split_lines(_text(path)) if line.strip()]


def _pair(name: str, **more: Any) -> SoundImage:
    return SoundImage(name, f"frames/{name}.jpg", f"audio/{name}.wav", **more)


def box(path: Path, place: str, corners: Any) -> Box:
    """A box of four numbers, within the image.

    One that ends before it begins, of which VGG-SS has some, covers nothing, as in the evaluators.

    Raises:
      FeatureFileError: not four finite numbers.
    """
    try:
        values = np.array(corners, np.float64)
    except (ValueError, TypeError, OverflowError):
        values = np.empty(0)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise FeatureFileError(path, place, "a box of four numbers", repr(corners)[:100])
    x1, y1, x2, y2 = (float(value) for value in np.clip(values, 0, 1))
    return x1, y1, max(x1, x2), max(y1, y2)


def read_ave(folder: Path) -> list[SoundImage]:
    """The videos of Annotations.txt, each once: Category&VideoID&Quality&StartTime&EndTime."""
    path, classes = folder / "Annotations.txt", dict[str, str]()
    for number, line in enumerate(_lines(path), 1):
        fields = line.split("&")
        if len(fields) != 5:
            expected = "Category&VideoID&Quality&StartTime&EndTime"
            raise FeatureFileError(path, f"line {number}", expected, repr(line[:100]))
        if number > 1 or fields[0] != "Category":
            classes.setdefault(fields[1], fields[0])
    return [_pair(video, class_name=name) for video, name in classes.items()]


def flickr_boxes(path: Path) -> tuple[Box, ...]:
    """The boxes of one image of Flickr-SoundNet, of pixels of 256 × 256.

    A `bbox` two levels down has five elements, a name and four corners; every box is the vote of an
    annotator, as in the evaluators of EZ-VSL and SLAVC.

    Raises:
      FeatureFileError: it is not that.
    """
    content = _text(path, SIDE_FILE_BYTES)
    if "<!DOCTYPE" in content or "<!ENTITY" in content:  # entities may grow without end
        raise FeatureFileError(path, None, "XML without definitions", "a DOCTYPE or an ENTITY")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise FeatureFileError(path, None, "XML", str(error)) from error
    found = []
    for place, element in enumerate(root.findall("./*/bbox")):
        corners = [child.text or "" for child in element][1:]
        try:
            values = [int(text) / FLICKR_SIZE for text in corners]
        except ValueError as error:
            expected = "a name and four whole numbers"
            raise FeatureFileError(path, f"bbox {place}", expected, repr(corners)) from error
        found.append(box(path, f"bbox {place}", values))
    if not found:
        raise FeatureFileError(path, "bbox", "one or more, two levels down", "none")
    return tuple(found)


def read_flickr(folder: Path) -> list[SoundImage]:
    """Every annotated image: the 5,000 pairs that retrieval is tested on."""
    names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    if not names:
        raise FeatureFileError(folder / "Annotations", None, "a .xml file an image", "none")
    return [_flickr_pair(folder, name) for name in names]


def read_flickr_test(folder: Path) -> list[SoundImage]:
    """The images that the first column of flickr_test.csv names, for localisation."""
    return [_flickr_pair(folder, name) for name in _listed(folder / "flickr_test.csv")]


def _flickr_pair(folder: Path, name: str) -> SoundImage:
    return _pair(name, boxes=flickr_boxes(folder / "Annotations" / f"{name}.xml"))


def _listed(path: Path) -> list[str]:
    return [line.split(",")[0] for line in _lines(path)]


def read_vggss(folder: Path) -> list[SoundImage]:
    """VGG-SS: a list of {"file", "class", "bbox": [[x1, y1, x2, y2], ...]} in vggss.json."""
    path = folder / "vggss.json"
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise FeatureFileError(path, None, "a list of objects", type(entries).__name__)
    return [_vggss_pair(path, f"entry {i}", entry) for i, entry in enumerate(entries)]


def _vggss_pair(path: Path, place: str, entry: Any) -> SoundImage:
    known = isinstance(entry, dict) and isinstance(entry.get("bbox"), list)
    if not known or not all(isinstance(entry.get(key), str) for key in ("file", "class")):
        expected = '"file", "class" and a list "bbox"'
        raise FeatureFileError(path, place, expected, repr(entry)[:100])
    boxes = tuple(box(path, place, corners) for corners in entry["bbox"])
    return _pair(entry["file"], class_name=entry["class"], boxes=boxes)


def read_vggss_extended(folder: Path) -> list[SoundImage]:
    """VGG-SS and the negatives of vggss_test_plus_silent.csv."""
    return read_vggss(folder) + silent(folder / "vggss_test_plus_silent.csv")


def read_flickr_extended(folder: Path) -> list[SoundImage]:
    """The test images of Flickr-SoundNet and the negatives of flickr_test_plus_silent.csv."""
    return read_flickr_test(folder) + silent(folder / "flickr_test_plus_silent.csv")


def silent(path: Path) -> list[SoundImage]:
    """The rows video,audio,label that are non-sounding: an image, and a sound of another."""
    header, *rows = _lines(path) or [""]
    if header.split(",") != ["video", "audio", "label"]:
        raise FeatureFileError(path, "header", "video,audio,label", repr(header[:100]))
    found = []
    for number, line in enumerate(rows, 2):
        fields = line.split(",")
        if len(fields) != 3:
            raise FeatureFileError(path, f"line {number}", "three fields", repr(line[:100]))
        video, audio, label = fields
        if label == SILENT:
            place = f"frames/{video}.jpg", f"audio/{audio}.wav"
            found.append(SoundImage(f"{video}+{audio}", *place))
    return found


def read_music_solo(folder: Path) -> list[SoundImage]:
    """The frames of solos with a box, of solotest.json and MUSIC_solo_videos.json."""
    return _music(folder / "solotest.json", folder / "MUSIC_solo_videos.json")


def read_music_duet(folder: Path) -> list[SoundImage]:
    """The frames of duets with a box, of duettest.json and MUSIC_duet_videos.json."""
    return _music(folder / "duettest.json", folder / "MUSIC_duet_videos.json")


def _music(boxes: Path, videos: Path) -> list[SoundImage]:
    """Frames VIDEO_FIRST_LAST/frame_SECOND/NUMBER.jpg, whose sound is VIDEO_FIRST_LAST/SECOND.wav.

    The class is the key of the video: an instrument, or two. Frames without a box, where no
    instrument is seen, are left out.
    """
    instrument = _instruments(videos)
    content = read_json(boxes)
    if not isinstance(content, dict) or not content:
        raise FeatureFileError(boxes, None, "an object by frame", type(content).__name__)
    found = []
    for frame, entry in content.items():
        parts = frame.split("/")
        if len(parts) != 3 or not parts[1].startswith("frame_") or not frame.endswith(".jpg"):
            raise FeatureFileError(boxes, frame[:100], "VIDEO/frame_SECOND/NUMBER.jpg", "another")
        if parts[0][:11] not in instrument:
            raise FeatureFileError(boxes, frame, f"a video of {videos.name}", parts[0][:11])
        corners = _corners(boxes, frame, entry)
        if corners:
            sound = f"audio/{parts[0]}/{parts[1].removeprefix('frame_')}.wav"
            name = instrument[parts[0][:11]]
            found.append(SoundImage(frame, f"frames/{frame}", sound, name, corners))
    return sorted(found)


def _instruments(path: Path) -> Mapping[str, str]:
    """YouTube id -> the key that it is listed under."""
    content = read_json(path)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict) or not all(isinstance(v, list) for v in videos.values()):
        raise FeatureFileError(path, "videos", "an object of lists of ids", type(videos).__name__)
    return {str(video): name for name, listed in videos.items() for video in listed}


def _corners(path: Path, frame: str, entry: Any) -> tuple[Box, ...]:
    """Of boxes x, y, width, height in 0 … 1, under `normbox`."""
    listed = entry.get("bbox") if isinstance(entry, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise FeatureFileError(path, frame, 'a list "bbox" of objects', repr(entry)[:100])
    found = []
    for each in listed:
        sides = each.get("normbox")
        if not isinstance(sides, list) or len(sides) != 4:
            raise FeatureFileError(path, frame, '"normbox" of four numbers', repr(sides)[:100])
        x, y, width, height = sides
        try:
            found.append(box(path, frame, (x, y, x + width, y + height)))
        except TypeError as error:
            raise FeatureFileError(path, frame, '"normbox" of four numbers', repr(sides)) from error
    return tuple(found)


READERS: dict[str, Reader] = {
    "ave": Reader(("Annotations.txt",), read_ave, 4097, located=False),
    "flickr_soundnet": Reader(("Annotations",), read_flickr, 5000, agreement=2),
    "flickr_soundnet_test": Reader(
        ("Annotations", "flickr_test.csv"), read_flickr_test, 250, agreement=2
    ),
    "flickr_soundnet_extended": Reader(
        ("Annotations", "flickr_test.csv", "flickr_test_plus_silent.csv"),
        read_flickr_extended,
        500,
        agreement=2,
    ),
    "vggss": Reader(("vggss.json",), read_vggss, 5158),
    "vggss_extended": Reader(
        ("vggss.json", "vggss_test_plus_silent.csv"), read_vggss_extended, 10316
    ),
    "music_solo": Reader(("solotest.json", "MUSIC_solo_videos.json"), read_music_solo, 12356),
    "music_duet": Reader(("duettest.json", "MUSIC_duet_videos.json"), read_music_duet, 10284),
}
