"""Command line: python -m unirep_jax.doctor: versions, devices, what would fail and how to fix it.

Exits with 1 if something would fail. An extra that is not installed is no failure.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from unirep_jax.terminal import escape_what_cannot_be_shown

# Package: oldest version that is known to work, first one that is known not to, what needs it.
PACKAGES = {
    "jax": ("0.7.2", "", "everything"),
    "jaxlib": ("0.7.2", "", "everything"),
    "flax": ("0.11.2", "", "models"),
    "optax": ("0.2.5", "", "training"),
    "ott-jax": ("0.6.0", "0.7", "transport plans"),
    "lineax": ("0.0.8", "0.2", "ott-jax"),
    "orbax-checkpoint": ("0.11.30", "1", "checkpoints"),
    "ml-collections": ("1.1.0", "", "configurations"),
    "safetensors": ("0.5", "", "connectors and released weights"),
    "scikit-learn": ("1.5", "", "digits_avt and pictures"),
    "scikit-image": ("0.24", "", "optical flow"),
    "matplotlib": ("3.9", "", "pictures"),
    "h5py": ("3.11", "", "conversion of published features"),
    "tensorflow-datasets": ("4.9.9", "", "builders of data sets"),
}
SMALL_DISK = 2 * 2**30
SMALL_MEMORY = 2 * 2**30  # runs on digits_avt, which ships inside, were seen to take 1.9 GiB
EXTRAS = ("media", "encoders", "tracking", "notebooks", "docs", "bench", "parity")


class Finding(NamedTuple):
    """What was looked at, what was found, and the remedy where it would fail ("" if it is well)."""

    subject: str
    found: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Everything that a run needs, from Python to a step on every device."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", python, "" if sys.version_info >= (3, 11) else "install Python 3.11")
    for name, (oldest, broken, needed_by) in PACKAGES.items():
        yield _package(name, oldest, broken, needed_by)
    yield _tensorflow()
    yield from _devices()
    yield _memory()
    yield _disk(Path.cwd())
    yield _compiled_programs()
    yield from map(_extra, EXTRAS)


def _package(name: str, oldest: str, broken: str, needed_by: str) -> Finding:
    wanted = f"'{name}>={oldest}" + (f",<{broken}'" if broken else "'")
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "absent", f"{needed_by}: pip install {wanted}")
    fits = _numbers(found) >= _numbers(oldest)
    fits = fits and not (broken and _numbers(found) >= _numbers(broken))
    return Finding(name, found, "" if fits else f"{needed_by}: pip install {wanted}")


def _numbers(text: str) -> tuple[int, ...]:
    """Leading numbers of a version: 0.12.0.1 and 1.0rc1 become (0, 12, 0, 1) and (1, 0)."""
    digits = []
    for part in text.split("."):
        number = "".join(c for c in part if c.isdigit()) if part.isdigit() else part[:1]
        if not number.isdigit():
            break
        digits.append(int(number))
    return tuple(digits)


def _tensorflow() -> Finding:
    names = [n for n in ("tensorflow-cpu", "tensorflow") if _installed(n)]
    if len(names) == 2:
        return Finding(
            "TensorFlow",
            "two of them",
            "pip uninstall tensorflow tensorflow-cpu, then "
            "install one: both are the module tensorflow",
        )
    if not names or importlib.util.find_spec("tensorflow") is None:
        remedy = "streaming of features: pip install 'unirep_jax[train]'"
        return Finding("TensorFlow", "absent", remedy)
    return Finding("TensorFlow", f"{names[0]} {version(names[0])}")


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _devices() -> Iterator[Finding]:
    """In another process: a driver that does not fit may end it."""
    program = (
        "import jax, jax.numpy as jnp\n"
        "d = jax.devices()\n"
        "x = [float(jax.device_put(jnp.ones((64, 64)), i).sum()) for i in d]\n"
        "assert x == [4096.0] * len(d), x\n"
        "print(len(d), d[0].device_kind, d[0].platform, sep=' | ')"  # ASCII, in any locale
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        remedy = "install the JAX of this accelerator and driver, or set JAX_PLATFORMS=cpu"
        yield Finding("devices", last, remedy)
        return
    count, kind, platform = result.stdout.strip().split(" | ")
    yield Finding("devices", f"{count} × {kind}")
    if platform == "cpu" and shutil.which("nvidia-smi"):
        yield Finding("GPU", "there, but JAX does not use it", "pip install 'jax[cuda12]'")
    if platform == "cpu" and Path("/dev/accel0").exists():
        yield Finding("TPU", "there, but JAX does not use it", "pip install 'jax[tpu]'")


def _disk(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = "give a --workdir in a folder that can be written"
        return Finding("disk", f"{folder}: {error.strerror}", remedy)
    free = shutil.disk_usage(folder).free
    remedy = "checkpoints may not fit: give a --workdir elsewhere" if free < SMALL_DISK else ""
    return Finding("disk", f"{free / 2**30:.0f} GiB free in {folder}", remedy)


def _memory() -> Finding:
    """Of the machine, or of the container that this runs in."""
    try:
        from unirep_jax.data.limits import memory
    except ModuleNotFoundError as error:  # of NumPy or JAX
        return Finding("memory", f"unknown: {error}", "pip install unirep_jax")
    total = memory()
    remedy = "runs may be killed: give the machine or the container 2 GiB or more"
    return Finding("memory", f"{total / 2**30:.0f} GiB", remedy if total < SMALL_MEMORY else "")


def _compiled_programs() -> Finding:
    """The folder in which runs keep them; without it every run compiles again."""
    try:
        from unirep_jax.compile_cache import default_folder, private_folder
    except ModuleNotFoundError as error:  # of absl, without the extra `train`
        return Finding("compile cache", str(error), "pip install 'unirep_jax[train]'")
    try:
        chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        folder = Path(chosen) if chosen else private_folder(default_folder())
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home is known
        remedy = "run with --compile_cache=DIR, or --compile_cache=off"
        return Finding("compile cache", str(error), remedy)
    return Finding("compile cache", str(folder))


def _extra(name: str) -> Finding:
    """Whether an optional extra of this package is installed, which only some commands need."""
    try:
        lines = requires("unirep_jax") or []
    except PackageNotFoundError:  # a source folder on the path, without metadata
        return Finding(f"extra {name}", "unknown: unirep_jax itself is not installed")
    wanted = [line for line in lines if re.search(rf"extra == ['\"]{name}['\"]", line)]
    packages = [match[0] for line in wanted if (match := re.match(r"[\w.-]+", line))]
    absent = [package for package in packages if not _installed(package)]
    if not absent:
        return Finding(f"extra {name}", "installed" if packages else "not of this version")
    return Finding(
        f"extra {name}", f"without {', '.join(absent)} (pip install 'unirep_jax[{name}]')"
    )


def main() -> None:
    escape_what_cannot_be_shown()
    failing = 0
    for subject, found, remedy in examine():
        failing += bool(remedy)
        print(f"{'FAIL' if remedy else 'ok  '}  {subject:20} {found}", flush=True)
        if remedy:
            print(f"      {'':20} → {remedy}")
    print(f"\n{failing} would fail" if failing else "\nall is well")
    sys.exit(bool(failing))


if __name__ == "__main__":
    main()
