"""Files that a user names or somebody else has made: found, opened and cut into lines with care."""

import errno
import io
import os
import re
import stat
from pathlib import Path

_LINE_END = re.compile(r"\r\n|\r|\n")


def user_path(path: str | Path) -> Path:
    """The path with a leading ~ or ~USER replaced, which the shell leaves alone inside --flag=~/x.

    Where there is no such home the path stays as it is, and is then not found under its own name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def file_in(path: str | Path, name: str) -> Path:
    """The file that a user names, or the one of this name in the folder that they name."""
    path = user_path(path)
    return path / name if path.is_dir() else path


def open_regular(path: Path, limit: int | None = None) -> io.BufferedReader:
    """A regular file, opened for reading.

    A pipe or a device may never end, and opening one may wait for ever or do something.

    Args:
      path: of the file; links are followed.
      limit: how many bytes it may have.

    Raises:
      OSError: it is anything but a regular file, is larger, or cannot be opened.
    """
    _check_regular(path, os.stat(path))  # noqa: PTH116, one function for paths and open files
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        found = os.fstat(stream.fileno())  # what has been opened, whatever the path means by now
        _check_regular(path, found)
        if limit is not None and found.st_size > limit:
            raise OSError(errno.EFBIG, f"{found.st_size} bytes, more than {limit}", str(path))
    except BaseException:
        stream.close()
        raise
    return stream


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
      OSError: as `open_regular`.
    """
    with open_regular(path, limit) as stream:
        size = os.fstat(stream.fileno()).st_size
        return stream.read(size)  # not what is written meanwhile


def read_text(path: Path, limit: int) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
      OSError: as `open_regular`.
      UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8-sig")


def split_lines(text: str) -> list[str]:
    """Lines that end at LF, CR LF or CR alone.

    `str.splitlines` also ends a line at U+2028, U+0085, VT, FF and others, which occur inside
    captions that were copied from the web.
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(kind, "expected a regular file, found a folder, pipe or device", str(path))
