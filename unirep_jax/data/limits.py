"""How large what is read from a file may be: every cap in one place, and the memory there is.

They are checked against what a file says of itself before its content is read. None of them is
near what research data need; whoever needs more changes the number here.
"""

import os
from pathlib import Path

MAX_EXAMPLES = 100_000_000
MAX_CLASSES = 100_000  # without names, labels beyond are not class numbers either
MAX_NAME = 1_000  # characters of a class name or an example's id
MAX_TEXT = 100_000  # characters of a string in an array
MAX_MODALITIES = 64
MAX_MODALITY_NAME = 64
MAX_RANK = 8
MAX_VOCABULARY = 10_000_000  # word ids are below

MAX_MEMBERS = 4_096  # arrays of one .npz file or folder
MAX_ENTRIES = 10_000  # files and folders that are looked at to find the arrays of a folder
HEADER_BYTES = 1 << 16  # of a .npy array
SAFETENSORS_HEADER_BYTES = 1 << 24
SIDE_FILE_BYTES = 1 << 20  # JSON beside an array or a run
TEXT_BYTES = 1 << 27  # a table or list of a data set
EXAMPLE_BYTES = 1 << 30  # one example of one modality, as float32
H5_BYTES = 1 << 30  # an array of an HDF5 file read whole, or a chunk of it
PICKLE_BYTES = 1 << 26  # a zipped pickle, its member, its array
SOUND_BYTES = 1 << 28
IMAGE_BYTES = 1 << 28
IMAGE_PIXELS = 1 << 26
MAT_BYTES = 1 << 24  # a MATLAB file, packed and unpacked

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2, as a container sees its own group
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # version 1
)


def memory() -> int:
    """Bytes of memory that this process may have: the machine's, or its container's if less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *filter(None, map(_limit, _CGROUP_LIMITS))])


def _limit(path: Path) -> int:
    """The number in a file of the kernel, 0 where there is none (no such file, or "max")."""
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0
