"""A small feature file that is right, and both ways of writing one down."""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data import FeatureSet, load_features

SPLITS = Path(os.environ.get("UNIREP_JAX_SHARED", Path(__file__).parents[3] / "shared"))
SPLITS = SPLITS / "data/splits"


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


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Makes a tiny copy of a published set of features, by name; returns where."""
    import published_trees

    published_trees.shrink(monkeypatch)

    def make(name):
        write_tree, _, _ = published_trees.TREES[name]
        folder = tmp_path / "published" / name
        folder.mkdir(parents=True)
        write_tree(folder)
        return folder

    return make


@pytest.fixture
def split_file(tmp_path):
    """Unpacks a published table into a folder; the test skips where it is absent."""

    def unpack(name, folder=tmp_path):
        path = SPLITS / f"{name}.gz"
        if not path.exists():
            pytest.skip(f"published table {path} is not here (set UNIREP_JAX_SHARED)")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(name).name).write_bytes(gzip.decompress(path.read_bytes()))
        return folder / Path(name).name

    return unpack
