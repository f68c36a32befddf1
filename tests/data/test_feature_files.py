"""What a feature file keeps, and that it is written all or nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirep_jax.data import (
    FeatureFileError,
    FeatureSet,
    features,
    gather,
    load_features,
    mapped,
    save_features,
)


def assert_same(left: FeatureSet, right: FeatureSet):
    assert left.features.keys() == right.features.keys()
    assert left.class_names == right.class_names
    for field in ("label", "train", "group"):
        assert getattr(left, field).dtype == getattr(right, field).dtype
        np.testing.assert_array_equal(getattr(left, field), getattr(right, field))
    for modality in left.features:
        assert left.features[modality].dtype == right.features[modality].dtype
        np.testing.assert_array_equal(left.features[modality], right.features[modality])
        np.testing.assert_array_equal(left.present[modality], right.present[modality])


def test_a_file_gives_what_was_put_into_it(write, arrays):
    content = arrays
    loaded = load_features(write(content))
    assert loaded.name == "set"
    assert set(loaded.modalities) == {"video", "audio", "text"}
    assert loaded.num_classes == 3
    assert loaded.class_names == ("dog", "cat", "rain, heavy")
    for modality in loaded.modalities:
        np.testing.assert_array_equal(loaded.features[modality], content[f"modality/{modality}"])
        assert loaded.features[modality].dtype == content[f"modality/{modality}"].dtype
    np.testing.assert_array_equal(loaded.label, content["label"])
    np.testing.assert_array_equal(loaded.group, content["group"])
    np.testing.assert_array_equal(loaded.train, content["split"] == "train")
    np.testing.assert_array_equal(loaded.present["audio"], content["present/audio"])
    assert loaded.present["video"].all() and loaded.present["text"].all()
    assert loaded.label.dtype == loaded.group.dtype == np.int32
    assert loaded.train.dtype == bool


def test_modalities_keep_the_order_of_the_file_and_of_the_alphabet_in_a_folder(
    tmp_path, arrays, write_folder
):
    np.savez(tmp_path / "set.npz", **arrays)
    assert load_features(tmp_path / "set.npz").modalities == ("video", "audio", "text")
    write_folder(tmp_path / "set", arrays)
    assert load_features(tmp_path / "set").modalities == ("audio", "text", "video")


def test_what_is_left_out_takes_its_default(write, arrays):
    content = arrays
    del content["present/audio"], content["group"], content["class_name"]
    content["train"] = content.pop("split") == "train"
    loaded = load_features(write(content), name="mine")
    assert loaded.name == "mine"
    assert all(p.all() for p in loaded.present.values())
    np.testing.assert_array_equal(loaded.group, np.arange(6))
    assert loaded.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(loaded.train, content["train"])


def test_a_set_without_any_label_has_no_classes(write, arrays):
    content = arrays | {"label": np.full(6, -1, np.int8)}
    del content["class_name"]
    assert load_features(write(content)).class_names == ()


@pytest.mark.parametrize("target", ["again.npz", "again"])
def test_saving_and_loading_gives_the_same_set(write, tmp_path, target, arrays):
    original = load_features(write(arrays))
    save_features(tmp_path / target, original)
    again = load_features(tmp_path / target)
    assert_same(original, again)
    if target.endswith(".npz"):
        assert again.modalities == original.modalities


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_valid_set_survives_the_round_trip(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("round") / data.draw(st.sampled_from(["set.npz", "set"]))
    count = data.draw(st.integers(2, 7))
    names = data.draw(
        st.lists(
            st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True), min_size=2, max_size=4
        )
        # Some file systems do not tell names apart by case alone.
        .filter(lambda names: len({n.lower() for n in names}) == len(names))
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shapes = [(3,), (2, 3), (2, 1, 2, 3)]
    present = {name: rng.random(count) < 0.6 for name in names}
    present[names[0]] = ~np.any([present[n] for n in names[1:]], axis=0) | present[names[0]]
    original = FeatureSet.from_arrays(
        "set",
        {
            name: rng.standard_normal((count, *shapes[i % 3])).astype(f"f{2 ** (1 + i % 3)}")
            for i, name in enumerate(names)
        },
        rng.integers(-1, 3, count),
        np.arange(count) < data.draw(st.integers(1, count - 1)),
        present=present,
        group=rng.integers(-5, 5, count),
        class_names=tuple(
            data.draw(st.sampled_from(["", "a", "ü λ", "x/y"])) + str(c) for c in range(3)
        ),
    )
    save_features(path, original)
    assert_same(original, load_features(path))


def test_a_folder_is_memory_mapped_and_stays_so(tmp_path, arrays, write_folder):
    write_folder(tmp_path / "set", arrays)
    loaded = load_features(tmp_path / "set")
    for array in loaded.features.values():
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    batch = gather(loaded, [0])
    assert not isinstance(batch["features"]["video"], np.memmap)


def test_checking_a_memory_mapped_folder_copies_a_chunk_at_a_time(
    tmp_path, monkeypatch, arrays, write_folder
):
    monkeypatch.setattr(mapped, "_CHUNK_BYTES", 1000)
    longest = 0
    real = np.isfinite

    def spy(values):
        nonlocal longest
        longest = max(longest, values.nbytes)
        return real(values)

    content = arrays | {"modality/audio": np.ones((6, 100), np.float32)}
    content["modality/audio"][4, 7] = np.nan
    write_folder(tmp_path / "set", content)
    monkeypatch.setattr(features.np, "isfinite", spy)
    with pytest.raises(FeatureFileError, match="nan in row 4"):
        load_features(tmp_path / "set")
    assert 0 < longest <= 1000


def test_absent_rows_may_hold_anything_and_are_gathered_as_zero(write, arrays):
    content = arrays
    content["modality/audio"][1], content["modality/audio"][5] = np.nan, np.inf
    loaded = load_features(write(content))
    batch = gather(loaded, np.arange(6))
    assert (batch["features"]["audio"][[1, 5]] == 0).all()
    np.testing.assert_array_equal(
        batch["features"]["audio"][[0, 2]], content["modality/audio"][[0, 2]].astype(np.float32)
    )


@pytest.mark.parametrize("target", ["set.npz", "set"])
def test_a_save_that_fails_leaves_nothing_behind_and_the_old_file_whole(
    tmp_path, monkeypatch, target, right
):
    folder = tmp_path / "out"
    folder.mkdir()
    if target == "set.npz":
        save_features(folder / target, right)
    before = {file: file.read_bytes() for file in folder.iterdir()}

    def break_off(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(mapped.os, "fsync", break_off)
    with pytest.raises(OSError, match="disk full"):
        save_features(folder / target, right)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_saving_replaces_a_file_but_not_a_folder(tmp_path, right):
    save_features(tmp_path / "right.npz", FeatureSet(**vars(right) | {"label": right.label[::-1]}))
    np.testing.assert_array_equal(load_features(tmp_path / "right.npz").label, right.label[::-1])
    save_features(tmp_path / "set", right)
    with pytest.raises(FileExistsError, match="is a folder that exists"):
        save_features(tmp_path / "set", right)
    assert_same(load_features(tmp_path / "set"), right)


def test_what_would_not_load_is_not_saved(tmp_path, right):
    for change, pattern in (
        ({"label": right.label + 1}, "label: expected −1 … 2 for 3 classes, found 3"),
        ({"label": right.label.astype(np.int64)}, "label: expected int32"),
        ({"train": right.train.astype(int)}, "train: expected bool"),
        ({"present": {}}, "present: expected the modalities video, audio, text"),
        ({"group": right.group[:2]}, r"group: expected int32 \(6,\)"),
    ):
        with pytest.raises(FeatureFileError, match=pattern):
            save_features(tmp_path / "bad.npz", FeatureSet(**vars(right) | change))
    assert not (tmp_path / "bad.npz").exists()


def test_the_documented_example_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    assert names["feature_set"].modalities == ("video", "audio")
    assert load_features("my_set").features["video"].shape == (6, 10, 512)
