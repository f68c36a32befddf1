"""The fingerprint of a feature set: what changes it, what does not, and what it costs."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from unirep_jax.data import FeatureSet, Kind, load_features, save_features
from unirep_jax.data import fingerprint as module
from unirep_jax.data.fingerprint import fingerprint


def changed(right, field, key=None, **replaced):
    """The set with one value of a field (and modality) another one."""
    if replaced:
        return dataclasses.replace(right, **replaced)
    array = getattr(right, field) if key is None else getattr(right, field)[key]
    other = array.copy()
    other.flat[-1] = not other.flat[-1] if other.dtype == bool else other.flat[-1] + 1
    if key is None:
        return dataclasses.replace(right, **{field: other})
    return dataclasses.replace(right, **{field: getattr(right, field) | {key: other}})


def test_a_change_of_any_kind_is_seen(right):
    features = right.features
    changes = [
        changed(right, "label"),
        changed(right, "train"),
        changed(right, "group"),
        changed(right, "features", "video"),
        changed(right, "present", "video"),
        changed(right, "", class_names=("dog", "cat", "rain")),
        changed(right, "", features=features | {"video": features["video"].astype(np.float64)}),
        changed(right, "", features=features | {"video": features["video"].reshape(6, 2, 4, 2, 3)}),
        changed(right, "", declared={"audio": Kind.SPECTROGRAM}),
        changed(right, "", features=dict(reversed(features.items()))),
    ]
    found = [fingerprint(feature_set) for feature_set in (right, *changes)]
    assert len(set(found)) == len(found)
    assert all(len(value) == 64 for value in found)


def test_file_folder_memory_layout_and_name_do_not_count(tmp_path, right):
    kept = dict(sorted(right.features.items()))  # the order of a folder
    right = dataclasses.replace(right, features=kept)
    save_features(tmp_path / "file.npz", right)
    save_features(tmp_path / "folder", right)
    columns = {m: np.asfortranarray(x) for m, x in kept.items()}
    swapped = {m: x.astype(x.dtype.newbyteorder(">")) for m, x in kept.items()}
    same = [
        right,
        load_features(tmp_path / "file.npz"),
        load_features(tmp_path / "folder", "another name"),
        dataclasses.replace(right, features=columns),
        dataclasses.replace(right, features=swapped),
    ]
    assert len({fingerprint(feature_set) for feature_set in same}) == 1


def test_what_stands_in_absent_rows_does_not_count(right):
    audio = right.features["audio"].copy()
    audio[~right.present["audio"]] = np.nan
    other = dataclasses.replace(right, features=right.features | {"audio": audio})
    assert fingerprint(other) == fingerprint(right)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_file_with_another_row_is_seen_although_all_shapes_agree(
    tmp_path, write_folder, arrays, form
):
    found = []
    for scale in (1, 1.0001):
        content = arrays | {"modality/text": arrays["modality/text"] * scale}
        path = tmp_path / f"{scale}.npz"
        np.savez(path, **content)
        path = path if form == "file" else write_folder(tmp_path / str(scale), content)
        found.append(fingerprint(load_features(path)))
    assert found[0] != found[1]


def large(tmp_path, monkeypatch, rows=5000, dim=40):
    """A memory-mapped set that is sampled, and how many bytes of its features were hashed."""
    monkeypatch.setattr(module, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(module, "_SAMPLED_ROWS", 50)
    monkeypatch.setattr(module, "_ROW_BYTES", 64)
    rng = np.random.default_rng(0)
    features = {m: rng.standard_normal((rows, dim)).astype(np.float32) for m in ("a", "b")}
    made = FeatureSet.from_arrays("large", features, np.zeros(rows, int), np.arange(rows) < 10)
    save_features(tmp_path / "large", made)
    return load_features(tmp_path / "large")


def test_of_a_large_modality_the_starts_of_some_rows_are_read(tmp_path, monkeypatch):
    feature_set = large(tmp_path, monkeypatch)
    assert isinstance(feature_set.features["a"], np.memmap)
    hashed = []
    update = module._update
    monkeypatch.setattr(module, "_update", lambda d, x: (hashed.append(x), update(d, x)))
    before = fingerprint(feature_set)
    pieces = [x for x in hashed if x.dtype == np.float32]
    assert 50 < len(pieces) <= 100 and {x.nbytes for x in pieces} == {64}
    everywhere = {m: np.asarray(x) + np.float32(1) for m, x in feature_set.features.items()}
    assert fingerprint(dataclasses.replace(feature_set, features=everywhere)) != before


def test_another_process_finds_the_same(tmp_path, right):
    save_features(tmp_path / "set.npz", right)
    command = (
        "from unirep_jax.data.features import load_features\n"
        "from unirep_jax.data.fingerprint import fingerprint\n"
        f"print(fingerprint(load_features({str(tmp_path / 'set.npz')!r})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == fingerprint(right)


def test_the_fingerprint_stays_what_it_is(right):
    """Runs compare it with one that an earlier version has written."""
    whole = {m: np.ones(x.shape, x.dtype) for m, x in right.features.items()}
    expected = "505c4dfac3e28963ce3a964952ae54a4579463555cd49de63522046eeb6a46e6"
    assert fingerprint(dataclasses.replace(right, features=whole)) == expected
