"""The members of an .npz file, looked at before any of them is read."""

import os
import zipfile
from collections import Counter


def check_members(archive: zipfile.ZipFile) -> None:
    """Every name is there once, and all arrays fit into the memory of this machine together.

    Raises:
      ValueError: a name comes twice, so that it is not clear which array is meant, or the arrays
        are too large: a few compressed bytes may become any number.
    """
    members = archive.infolist()
    names = Counter(member.filename.removesuffix(".npy") for member in members)
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"{name!r} {count} times")
    size, memory = sum(member.file_size for member in members), _memory()
    if size > memory:
        raise ValueError(
            f"arrays of {size / 1e9:.1f} GB for {memory / 1e9:.1f} GB of memory; a folder of .npy "
            "files stays on disk"
        )


def _memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
