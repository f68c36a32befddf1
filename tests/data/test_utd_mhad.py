"""UTD-MHAD: the true file where it is at hand, and a small one of the same form everywhere."""

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, utd_mhad


def content(clips: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "depth": rng.integers(0, 256, (clips, 16, 32, 32), np.uint8),
        "depth_hog": rng.random((clips, 16, 128)).astype(np.float16),
        "skeleton": rng.standard_normal((clips, 16, 20, 3)).astype(np.float32),
        "inertial": rng.standard_normal((clips, 64, 6)).astype(np.float32),
        "depth_len": np.full(clips, 50, np.int32),
        "label": np.arange(clips, dtype=np.int32) % 3,
        "subject": np.arange(clips, dtype=np.int32) % 2 + 1,
        "trial": np.ones(clips, np.int32),
        "train": np.arange(clips) % 2 == 0,
        "class_name": np.array(["wave", "clap", "sit to stand"]),
    }


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_file_of_the_true_form_is_read(tmp_path, as_folder):
    file = tmp_path / "utd_mhad.npz"
    np.savez(file, **content())
    loaded = utd_mhad.load(tmp_path if as_folder else str(file))
    source = content()
    assert loaded.name == "utd_mhad"
    assert loaded.modalities == ("depth", "skeleton", "inertial")
    assert all(array.dtype == np.float32 for array in loaded.features.values())
    np.testing.assert_array_equal(loaded.features["depth"], source["depth_hog"])
    np.testing.assert_array_equal(loaded.features["inertial"], source["inertial"])
    assert loaded.features["skeleton"].shape == (6, 16, 60)
    for joint in (0, 19):
        np.testing.assert_array_equal(
            loaded.features["skeleton"][2, 5, 3 * joint : 3 * joint + 3],
            source["skeleton"][2, 5, joint],
        )
    np.testing.assert_array_equal(loaded.label, source["label"])
    np.testing.assert_array_equal(loaded.group, source["subject"])
    np.testing.assert_array_equal(loaded.train, source["train"])
    assert loaded.class_names == ("wave", "clap", "sit to stand")


@pytest.mark.parametrize(
    ("change", "key", "pattern"),
    [
        ({"depth_hog": None}, "depth_hog", "expected this key"),
        ({"depth_hog": np.ones((6, 16, 64), np.float16)}, "depth_hog", r"\(6, 16, 128\).*64"),
        ({"skeleton": np.ones((6, 16, 60), np.float32)}, "skeleton", r"\(6, 16, 20, 3\)"),
        ({"inertial": np.ones((5, 64, 6))}, "inertial", r"\(6, 64, 6\).*\(5, 64, 6\)"),
        ({"inertial": np.ones((6, 64, 6), int)}, "inertial", "float.*int64"),
        ({"subject": np.ones(6)}, "subject", "integer"),
        ({"train": np.ones(6, int)}, "train", "boolean"),
        ({"train": np.ones(6, bool)}, "split", "one test example"),
        ({"label": np.full(6, 3)}, "label", "3 in row 0"),
        ({"skeleton": np.full((6, 16, 20, 3), np.nan)}, "modality/skeleton", "nan in row 0"),
        ({"class_name": np.array([None, None, None])}, "class_name", "[Oo]bject"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_key(tmp_path, change, key, pattern):
    file = tmp_path / "utd_mhad.npz"
    np.savez(file, **{k: a for k, a in (content() | change).items() if a is not None})
    with pytest.raises(FeatureFileError, match=pattern) as caught:
        utd_mhad.load(tmp_path)
    assert str(caught.value).startswith(f"{file}: {key}: expected")


def test_a_missing_or_cut_file_is_named(tmp_path):
    with pytest.raises(FeatureFileError, match=r"utd_mhad\.npz: expected .* nothing there"):
        utd_mhad.load(tmp_path)
    np.savez(tmp_path / "utd_mhad.npz", **content())
    whole = (tmp_path / "utd_mhad.npz").read_bytes()
    (tmp_path / "utd_mhad.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatureFileError, match=r"utd_mhad\.npz: expected an \.npz file"):
        utd_mhad.load(tmp_path)


def test_the_true_file_has_its_published_sizes(shared_data):
    loaded = utd_mhad.load(shared_data("utd_mhad"))
    assert {m: a.shape for m, a in loaded.features.items()} == {
        "depth": (861, 16, 128),
        "skeleton": (861, 16, 60),
        "inertial": (861, 64, 6),
    }
    assert loaded.train.sum() == 431
    assert set(loaded.group[loaded.train]) == {1, 3, 5, 7}
    assert set(loaded.group[~loaded.train]) == {2, 4, 6, 8}
    assert loaded.num_classes == 27
    assert set(loaded.label) == set(range(27))
    # The hip of the first frame is the origin of every skeleton.
    joints = loaded.features["skeleton"].reshape(861, 16, 20, 3)[:, 0]
    assert (np.abs(joints).max(axis=-1).min(axis=-1) < 1e-5).all()
