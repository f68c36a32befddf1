"""Readers of pictures, sound and video files, each of which names the file that it cannot read.

Pillow, soundfile, soxr, PyAV and resvg are imported by the reader that needs them:
`pip install 'unirep_jax[media]'`.
"""

import contextlib
import gzip
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VECTOR = frozenset({".svg", ".svgz"})
AUDIO = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
CODED_AUDIO = frozenset({".m4a", ".aac", ".wma"})  # which libsndfile does not read
VIDEO = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv"})
TEXT = frozenset({".txt"})
# The medium of a file by its suffix.
SUFFIXES = {
    "image": IMAGE | VECTOR,
    "audio": AUDIO | CODED_AUDIO,
    "video": VIDEO,
    "text": TEXT,
}
_VECTOR_SIDE = 512  # pixels of the longer side of a drawing
_DPI = 96.0  # of drawings whose size is in points or inches
_MOST_DRAWING = 1 << 26  # bytes
# What a drawing refers to beyond itself: nobody's files should get into pictures of others.
_OUTSIDE = re.compile(r"""href\s*=\s*("(?!#|data:)[^"]*"|'(?!#|data:)[^']*')""")
_MOST_SECONDS = 3600  # of sound, where no length is asked for
_MOST_CHANNELS = 64
_MOST_PIXELS = 1 << 27
_MOST_TEXT = 1 << 20


class MediaError(ValueError):
    """A file that cannot be used: which, as what, and why, in one line."""

    def __init__(self, path: str | Path, medium: str, reason: str):
        super().__init__(str(path), medium, reason)

    def __str__(self) -> str:
        path, medium, reason = self.args
        return f"{path}: no readable {medium}: {' '.join(reason.split())}"


@contextlib.contextmanager
def naming(path: str | Path, medium: str) -> Iterator[None]:
    """What a decoder raises becomes a `MediaError`; a library that is not installed does not."""
    try:
        yield
    except (MediaError, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged bytes raise of every kind
        # An OSError names the file once more.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise MediaError(path, medium, f"{type(error).__name__}: {reason}") from error


def _check_file(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(2, "no such file")
    if not path.is_file():  # a pipe would never end
        raise OSError(22, "not a file")
    return path


def read_image(path: str | Path) -> "Image":
    """An RGB picture, upright as its EXIF data say; what is transparent shows white.

    ≠ `convert("RGB")` of Pillow and of the encoders' own loaders, which uncovers whatever colour is
    below transparent pixels. Drawings (SVG) are rendered with a longer side of 512 pixels.

    Raises:
      MediaError: the file is missing, damaged, or larger than 134 million pixels.
    """
    from PIL import Image, ImageOps

    with naming(path, "image"):
        source = _check_file(path)
        if source.suffix.lower() in VECTOR:
            opened = Image.open(io.BytesIO(_render(source)))
        else:
            opened = Image.open(source)
        with opened as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels")
            image.load()
            return _opaque(ImageOps.exif_transpose(image))


def _opaque(image: "Image") -> "Image":
    from PIL import Image

    if image.mode.startswith("I;16"):  # converting would cut instead of scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _render(path: Path) -> bytes:
    """PNG of a drawing, which fits into a square; one without a size takes that of its content."""
    import resvg_py

    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            content = packed.read(_MOST_DRAWING + 1)
    if len(content) > _MOST_DRAWING:
        raise ValueError(f"more than {_MOST_DRAWING} bytes")
    text = _OUTSIDE.sub('href=""', content.decode("utf-8-sig"))
    side = _VECTOR_SIDE
    return bytes(resvg_py.svg_to_bytes(svg_string=text, dpi=_DPI, width=side, height=side))


def read_audio(
    path: str | Path, rate: int, *, seconds: float | None = None
) -> Float[np.ndarray, "sample"]:
    """Sound at a sample rate, channels averaged; of a video, its sound.

    Args:
      path: wav, flac, ogg, opus, mp3, aiff; m4a, aac and the sound of videos through PyAV.
      rate: samples a second; other rates are resampled by soxr at high quality.
      seconds: of the beginning that is read; by default all, up to an hour.

    Raises:
      MediaError: the file is missing or damaged, or has no sound.
    """
    import soxr

    with naming(path, "audio"):
        source = _check_file(path)
        limit = _MOST_SECONDS if seconds is None else seconds
        coded = source.suffix.lower() in CODED_AUDIO | VIDEO
        wave, found = (_decode_audio if coded else _read_sound_file)(source, limit)
        if not len(wave):
            raise ValueError("no sound in it")
        if not np.isfinite(wave).all():
            raise ValueError("samples that are not finite")
        if found != rate:
            wave = soxr.resample(wave, found, rate)
        return wave if seconds is None else wave[: math.ceil(seconds * rate)]


def _read_sound_file(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    import soundfile

    with soundfile.SoundFile(path) as file:
        if file.channels > _MOST_CHANNELS:
            raise ValueError(f"{file.channels} channels")
        frames = math.ceil(seconds * file.samplerate)
        wave = file.read(frames, dtype="float32", always_2d=True)
        return wave.mean(axis=1), file.samplerate


def _decode_audio(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError("no sound in it")
        stream = container.streams.audio[0]
        planar = av.AudioResampler(format="fltp")
        pieces, samples = [], 0
        for frame in container.decode(stream):
            for piece in planar.resample(frame):
                pieces.append(piece.to_ndarray().mean(axis=0))
                samples += len(pieces[-1])
            if samples >= seconds * stream.rate:
                break
        wave = np.concatenate(pieces) if pieces else np.zeros(0)
        return wave[: math.ceil(seconds * stream.rate)].astype(np.float32), stream.rate


def read_video(
    path: str | Path, *, rate: float, count: int
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """`count` frames, those on show at 0, 1/rate, 2/rate … seconds; after the end, the last one.

    Raises:
      MediaError: the file is missing or damaged, or has no picture.
    """
    import av

    with naming(path, "video"), av.open(str(_check_file(path))) as container:
        if not container.streams.video:
            raise ValueError("no picture in it")
        taken: list[np.ndarray] = []
        begin = shown = None
        for frame in container.decode(video=0):
            time = frame.time or 0.0
            begin = time if begin is None else begin
            end = (time - begin) * rate - 1e-6  # of the frame on show; times are rounded fractions
            while shown is not None and len(taken) < min(count, end):
                taken.append(shown.to_ndarray(format="rgb24"))
            if len(taken) == count:
                break
            shown = frame
        if shown is None:
            raise ValueError("no picture in it")
        last = shown.to_ndarray(format="rgb24")
        return taken + [last] * (count - len(taken))


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file without the spaces around it.

    Raises:
      MediaError: the file is missing, no UTF-8, or longer than a million bytes.
    """
    with naming(path, "text"), _check_file(path).open("rb") as stream:
        content = stream.read(_MOST_TEXT + 1)
        if len(content) > _MOST_TEXT:
            raise ValueError(f"more than {_MOST_TEXT} bytes")
        return content.decode("utf-8-sig").strip()
