"""Checks of the members of an .npz file before any of them is read."""

import zipfile
from collections import Counter

from unirep_jax.data.limits import MAX_MEMBERS, memory


def check_members(archive: zipfile.ZipFile) -> None:
    """Every name is there once, and all arrays fit into the memory of this machine together.

    Raises:
      ValueError: a name comes twice, so that it is not clear which array is meant, there are too
        many, or they are too large: a few compressed bytes may become any number.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members)} arrays, more than {MAX_MEMBERS}")
    names = Counter(member.filename.removesuffix(".npy") for member in members)
    for name, count in names.items():
        if count > 1:
            raise ValueError(f"{name!r} {count} times")
    size, limit = sum(member.file_size for member in members), memory()
    if size > limit:
        raise ValueError(
            f"arrays of {size / 1e9:.1f} GB for {limit / 1e9:.1f} GB of memory; a folder of .npy "
            "files stays on disk"
        )
