"""Compiled programs, kept between runs in a folder that nobody else can write.

JAX runs what it finds there without looking at it, so the folder is as good as code.
"""

import hashlib
import os
import platform
import stat
from pathlib import Path

from absl import flags

from unirep_jax.terminal import say

LARGEST = 2**30  # bytes of programs that are kept, the newest ones

_CHOICE = flags.DEFINE_string(
    "compile_cache",
    "",
    "Folder that keeps compiled programs, so that the next run starts sooner, or 'off'. By default "
    "$JAX_COMPILATION_CACHE_DIR, else unirep_jax/compiled in $XDG_CACHE_HOME or ~/.cache.",
)


class CacheFolderError(OSError):
    """A folder for programs that others could change, or that cannot be used."""


def use_compile_cache() -> None:
    """As the flag says. Where the folder by default is not safe, nothing is kept, with a line.

    Raises:
      CacheFolderError: the folder that was asked for is not safe.
    """
    import jax

    if _CHOICE.value == "off":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not _CHOICE.value and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        folder = private_folder(
            Path(_CHOICE.value).expanduser() if _CHOICE.value else default_folder()
        )
        _remove_oldest(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home is known
        if _CHOICE.value:
            raise CacheFolderError(f"--compile_cache: {error}") from error
        say(f"compiled programs are not kept: {error} (--compile_cache=DIR or off)")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def default_folder() -> Path:
    """unirep_jax/compiled in the user's folder for what can be made again."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG has relative paths ignored.
    parent = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return parent / "unirep_jax" / "compiled"


def private_folder(folder: Path) -> Path:
    """A folder in it for this kind of machine, made where it is absent, for this user alone.

    Raises:
      CacheFolderError: the folder is another user's, or others may write into it or replace it.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = folder / _machine()
    place.mkdir(mode=0o700, exist_ok=True)
    for own in (folder, place):
        found = own.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise CacheFolderError(f"{own} is a link")
        if found.st_uid != os.getuid():
            raise CacheFolderError(f"{own} belongs to another user")
        if found.st_mode & 0o077:
            raise CacheFolderError(f"{own} is open to others: chmod 700 {own}")
    for parent in folder.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise CacheFolderError(f"{parent} can be written by everybody")
    return place


def _machine() -> str:
    """Processors of one kind share programs; a home folder may be that of several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    digest = hashlib.sha256(" ".join(sorted(features.split())).encode()).hexdigest()[:8]
    return f"{platform.machine() or 'machine'}-{digest}"


def _remove_oldest(folder: Path) -> None:
    """Other processes may do the same."""
    found = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    size = sum(status.st_size for _, status in found)
    for path, status in sorted(found, key=lambda each: each[1].st_mtime):
        if size <= LARGEST:
            return
        path.unlink(missing_ok=True)
        size -= status.st_size
