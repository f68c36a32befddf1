"""Eight CPU devices, strict promotion, and where the optional reference files are."""

import os
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Most of a test's time is compilation: cheap compilation of slow programs makes tests fast. What is
# given in the environment comes last and wins, as with XLA's own defaults in CI.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0"
    " --xla_cpu_parallel_codegen_split_count=1 "
) + os.environ.get("XLA_FLAGS", "")
# jaxlib ends the process over a flag that it does not know.
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12):
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false " + os.environ["XLA_FLAGS"]
if tuple(map(int, version("jaxlib").split(".")[:2])) >= (0, 10):
    # A hang fails instead of hanging.
    os.environ["XLA_FLAGS"] += " --xla_cpu_collective_call_terminate_timeout_seconds=60"
if "PYTEST_XDIST_WORKER" not in os.environ:
    # One folder of compiled programs for all workers, and for the commands that tests start.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="unirep_jax-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import jax.experimental
import numpy as np
import pytest

if not hasattr(jax, "enable_x64"):  # its name until JAX 0.8
    jax.enable_x64 = jax.experimental.enable_x64

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

SHARED = Path(os.environ.get("UNIREP_JAX_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Thousands of compiled programs use up the memory maps that a process may have."""
    yield
    jax.clear_caches()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def x64():
    """float64 arithmetic for the test, for gradient checks against finite differences."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def oracle():
    """Loads a reference file by name; the test skips where the reference folder is absent."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = SHARED / "oracles" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"reference file {path} is not here (set UNIREP_JAX_SHARED)")
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)

    return load


@pytest.fixture(scope="session")
def shared_data():
    """Path of a real data set by name; the test skips where it is absent."""

    def path(name: str) -> Path:
        file = SHARED / "data" / name / f"{name}.npz"
        if not file.exists():
            pytest.skip(f"data set {file} is not here (set UNIREP_JAX_SHARED)")
        return file

    return path


@pytest.fixture(scope="session")
def paired_features():
    """A small labelled data set of three paired modalities: sequences of two lengths, and vectors.

    Every class has a pattern over time; each modality sees it through its own random linear map.
    """
    from unirep_jax.data import FeatureSet

    rng = np.random.default_rng(0)
    classes, per_class, time = 4, 24, 4
    label = np.tile(np.arange(classes), per_class).astype(np.int32)
    pattern = rng.normal(size=(classes, time, 6))
    hidden = pattern[label] + 0.3 * rng.normal(size=(len(label), time, 6))

    def view(x: np.ndarray, width: int) -> np.ndarray:
        mixed = x @ rng.normal(size=(x.shape[-1], width))
        return (mixed + 0.1 * rng.normal(size=mixed.shape)).astype(np.float32)

    features = {
        "camera": view(hidden, 10),
        "sensor": view(np.repeat(hidden, 2, axis=1), 5),
        "caption": view(hidden.reshape(len(label), -1), 12),
    }
    train = np.arange(len(label)) < 64
    return FeatureSet.from_arrays("toy", features, label, train)


@pytest.fixture
def standard_promotion():
    """Optax mixes Python floats with integer step counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of some size, or changes its options; skips where that is forbidden."""
    folder = tmp_path / "disk"

    def mount(options: str) -> Path:
        first = not folder.exists()
        folder.mkdir(exist_ok=True)
        options = options if first else f"remount,{options}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            folder.rmdir()
            pytest.skip("only root of a machine that allows it mounts file systems")
        return folder

    yield mount
    if folder.exists():
        subprocess.run(["umount", "-l", str(folder)], check=True)
