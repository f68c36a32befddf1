"""A small feature file that is right, and both ways of writing one down."""

import shutil

import numpy as np
import pytest

from unirep_jax.data import FeatureSet, load_features


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Content of a right feature file, modalities not in the order of the alphabet."""
    rng = np.random.default_rng(0)
    return {
        "modality/video": rng.standard_normal((6, 4, 2, 2, 3)).astype(np.float32),
        "modality/audio": rng.standard_normal((6, 4, 5)).astype(np.float16),
        "modality/text": rng.standard_normal((6, 7)),
        "label": np.array([0, 1, 2, -1, 1, 0]),
        "split": np.array(["train", "train", "test", "train", "test", "test"]),
        "present/audio": np.array([True, False, True, True, True, False]),
        "group": np.array([3, 3, 4, 4, 5, 5], np.int16),
        "class_name": np.array(["dog", "cat", "rain, heavy"]),
    }


@pytest.fixture
def write_folder():
    """Writes arrays as a folder."""

    def put(path, content):
        shutil.rmtree(path, ignore_errors=True)
        for key, array in content.items():
            file = path / f"{key}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, array)
        return path

    return put


@pytest.fixture(params=["file", "folder"])
def write(request, tmp_path, write_folder):
    """Writes arrays as they are, right or wrong, in either form; returns where."""

    def put(content):
        if request.param == "folder":
            return write_folder(tmp_path / "set", content)
        np.savez(tmp_path / "set.npz", **content)
        return tmp_path / "set.npz"

    return put


@pytest.fixture
def right(tmp_path, arrays) -> FeatureSet:
    """The right file, loaded."""
    np.savez(tmp_path / "right.npz", **arrays)
    return load_features(tmp_path / "right.npz")
