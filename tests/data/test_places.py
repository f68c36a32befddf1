"""Where readers look: ~ is the home, a folder stands for the file in it, one array is one array."""

import numpy as np
import pytest

from unirep_jax.data import (
    FeatureFileError,
    emoji,
    handwritten6,
    load_features,
    mosi,
    save_features,
    wikipedia,
)
from unirep_jax.data.archive import load_array
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.data.connection import load_connection
from unirep_jax.data.pickled_array import read_zipped_array
from unirep_jax.data.prepared import load_prepared
from unirep_jax.models.released_weights import load_weights

ROWS = np.eye(4, dtype=np.float32)


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["set.npz", "set"])
def test_features_and_banks_of_the_home_are_found(home, right, name):
    save_features(f"~/{name}", right)
    assert load_features(f"~/{name}").name == "set"
    write_bank("~/bank.npy", ROWS, name="bank")
    assert open_bank("~/bank.npy").name == "bank"
    assert {p.name for p in home.iterdir()} == {name, "bank.npy", "bank.json"}


@pytest.mark.parametrize(
    "read",
    [
        load_features,
        load_prepared,
        open_bank,
        load_array,
        read_zipped_array,
        load_weights,
        load_connection,
        emoji.load,
        handwritten6.load,
        mosi.load,
        wikipedia.load,
    ],
)
@pytest.mark.parametrize("name", ["~/absent", "~nobody-of-this-name/absent", "/"])
def test_what_is_not_there_is_one_line_that_names_where(home, read, name):
    with pytest.raises(ValueError) as caught:
        read(name)
    expected = str(home / "absent") if name == "~/absent" else name
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_two_spaces_of_safetensors_need_no_array_beside_them(home):
    from safetensors.numpy import save_file

    for part in ("train", "test"):
        (home / part).mkdir()
        for name in ("text_1", "image_1", "text_2", "audio_2"):
            save_file({"rows": ROWS}, home / part / f"{name}.safetensors")
    assert len(load_connection(home).label) == 8


@pytest.mark.parametrize("array", [np.arange(3), np.array(["a", "ü"]), np.array([True]), ROWS])
def test_one_array_is_read_as_it_is(tmp_path, array):
    np.save(tmp_path / "array.npy", array)
    np.testing.assert_array_equal(load_array(tmp_path / "array.npy"), array)


@pytest.mark.parametrize(
    "content", [np.array([None]), np.array([1j]), np.array([(1,)], [("a", int)])]
)
def test_what_is_no_plain_array_is_none(tmp_path, content):
    np.save(tmp_path / "array.npy", content, allow_pickle=True)
    with pytest.raises(FeatureFileError, match=r"array\.npy: expected a plain array, found"):
        load_array(tmp_path / "array.npy")
