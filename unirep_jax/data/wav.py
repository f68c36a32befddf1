"""Sound in WAV files of 16-bit samples, read whole or not at all."""

import struct
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16

_PCM, _EXTENSIBLE = 1, 0xFFFE
_FORMAT = struct.Struct("<HHIIHH")  # code, channels, rate, bytes a second, bytes a frame, bits
_SUBFORMAT = slice(24, 40)  # of an extensible format, whose first two bytes are the code


class Sound(NamedTuple):
    """rate: frames a second."""

    rate: int
    samples: Int16[np.ndarray, "frame channel"]

    @property
    def channels(self) -> int:
        return self.samples.shape[1]


def parse_wav(content: bytes) -> Sound:
    """The samples in a WAV file; chunks beside format and data are passed over.

    A file whose data are shorter than it says is refused: half a download must not become half a
    recording. So is one with the size 0 or 2³² − 1, which writers to a pipe leave there.

    Args:
      content: of a file.

    Raises:
      ValueError: it is none of uncompressed 16-bit samples, or is cut short.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("no RIFF/WAVE header")
    chunks = _chunks(content)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise ValueError(f"no {'data' if b'fmt ' in chunks else 'format'}")
    head, data = chunks[b"fmt "], chunks[b"data"]
    if len(head) < _FORMAT.size:
        raise ValueError(f"a format of {len(head)} bytes")
    code, channels, rate, _, frame_bytes, bits = _FORMAT.unpack_from(head)
    if code == _EXTENSIBLE and len(head) >= _SUBFORMAT.stop:
        code = int.from_bytes(head[_SUBFORMAT][:2], "little")
    if code != _PCM or bits != 16:
        raise ValueError(f"format {code} of {bits} bits, not 16-bit PCM")
    if not channels or frame_bytes != 2 * channels or len(data) % frame_bytes:
        raise ValueError(f"{len(data)} bytes in frames of {frame_bytes} for {channels} channels")
    return Sound(rate, np.frombuffer(data, "<i2").reshape(-1, channels).astype(np.int16))


def _chunks(content: bytes) -> dict[bytes, memoryview]:
    """The content of each chunk by its name, of several of a name the first."""
    view, place = memoryview(content), 12
    found: dict[bytes, memoryview] = {}
    while place + 8 <= len(content):
        name, size = content[place : place + 4], int.from_bytes(content[place + 4 :][:4], "little")
        if place + 8 + size > len(content):
            raise ValueError(f"{len(content) - place - 8} of {size} bytes of {name!r}: cut short")
        found.setdefault(name, view[place + 8 : place + 8 + size])
        place += 8 + size + size % 2  # chunks begin at even places
    return found
