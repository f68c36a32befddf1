"""Eight CPU devices, strict promotion, and where the optional reference files are."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_cpu_collective_call_terminate_timeout_seconds=60"  # a hang fails instead of hanging
)

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

SHARED = Path(os.environ.get("UNIREP_JAX_SHARED", Path(__file__).parents[2] / "shared"))


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
