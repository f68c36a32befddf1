"""Tensors of PyTorch checkpoints, read without PyTorch: content, and what is refused."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, torch_file
from unirep_jax.data.torch_file import read_tensors


class Rebuild:
    """What PyTorch writes for a tensor, without PyTorch."""

    def __init__(self, key, count, shape, strides, offset=0, kind="FloatStorage"):
        self.storage = ("storage", kind, key, "cpu", count)
        self.arguments = (offset, shape, strides, False, {})


class Named:
    def __init__(self, module, name):
        self.module, self.name = module, name


class Pickler(pickle._Pickler):  # the one in Python can write names of what is not installed
    def persistent_id(self, found):
        return found.storage_id if hasattr(found, "storage_id") else None

    def save_named(self, found):
        self.write(pickle.GLOBAL + f"{found.module}\n{found.name}\n".encode())

    def save_rebuild(self, found):
        self.save_named(Named("torch._utils", "_rebuild_tensor_v2"))
        self.write(pickle.MARK)
        word, kind, key, device, count = found.storage
        self.write(pickle.MARK)
        self.save(word)
        self.save_named(Named("torch", kind))
        for part in (key, device, count):
            self.save(part)
        self.write(pickle.TUPLE + pickle.BINPERSID)
        for part in found.arguments:
            self.save(part)
        self.write(pickle.TUPLE + pickle.REDUCE)

    dispatch = pickle._Pickler.dispatch | {Rebuild: save_rebuild, Named: save_named}


def write(path, found, storages, extra=()):
    content = io.BytesIO()
    Pickler(content, 2).dump(found)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array).tobytes())
        for name, text in extra:
            archive.writestr(name, text)
    return path


def write_old(path, found, storages):
    """The sequence of pickles that PyTorch wrote before version 1.6."""
    content = io.BytesIO()
    machine = {"little_endian": True}
    for part in (0x1950A86A20F9469CFC6C, 1001, machine, found, [*storages]):
        Pickler(content, 2).dump(part)
    for array in storages.values():
        content.write(len(array).to_bytes(8, "little") + array.tobytes())
    path.write_bytes(content.getvalue())
    return path


def test_tensors_of_nested_dictionaries_are_named_and_strided(tmp_path):
    numbers = np.arange(12, dtype="<f4")
    found = {
        "epoch": 3,
        "model": {
            "a.weight": Rebuild("0", 12, (3, 4), (4, 1)),
            "b": Rebuild("0", 12, (2, 2), (1, 4), offset=2),
        },
        "list": [Rebuild("1", 2, (), ())],
    }
    path = write(tmp_path / "a.pth", found, {"0": numbers, "1": numbers[5:7]})
    tensors = read_tensors(path)
    assert list(tensors) == ["model.a.weight", "model.b", "list.0"]
    np.testing.assert_array_equal(tensors["model.a.weight"], numbers.reshape(3, 4))
    np.testing.assert_array_equal(tensors["model.b"], [[2, 6], [3, 7]])
    assert tensors["list.0"] == 5 and tensors["list.0"].dtype == np.float32


def test_half_precision_of_both_kinds_is_read(tmp_path):
    values = np.array([1.5, -2.0, 0.25], "<f4")
    stored = {"0": (values.view("<u4") >> 16).astype("<u2"), "1": values.astype("<f2")}
    found = {
        "b": Rebuild("0", 3, (3,), (1,), kind="BFloat16Storage"),
        "h": Rebuild("1", 3, (3,), (1,), kind="HalfStorage"),
    }
    tensors = read_tensors(write(tmp_path / "a.pth", found, stored))
    np.testing.assert_array_equal(tensors["b"], values)
    assert tensors["h"].dtype == np.float16
    np.testing.assert_array_equal(tensors["h"], values)


def test_nothing_that_a_checkpoint_names_is_called(tmp_path):
    class Program:
        def __reduce__(self):
            return os.makedirs, (str(tmp_path / "made"), 0o777, True)

    content = io.BytesIO()
    pickle.dump({"x": Program(), "y": [Program()]}, content, 2)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
    assert read_tensors(tmp_path / "a.pth") == {}
    assert not (tmp_path / "made").exists()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickle.loads(archive.read("archive/data.pkl"))
    assert (tmp_path / "made").exists(), "the attack works where pickles are run"


def test_names_are_records_whatever_they_are_asked_to_be(tmp_path):
    found = {
        "x": Named("builtins", "eval"),
        "y": Named("os", "system"),
        "z": {"w": Named("a", "b")},
    }
    assert read_tensors(write(tmp_path / "a.pth", found, {})) == {}


@pytest.mark.parametrize(
    "tensor, says",
    [
        (Rebuild("0", 4, (2, 3), (3, 1)), "reaches beyond its 4 numbers"),
        (Rebuild("0", 4, (2,), (1,), offset=3), "reaches beyond its 4 numbers"),
        (Rebuild("0", 4, (1 << 40,), (0,)), "reaches beyond its 4 numbers"),
        (Rebuild("0", 4, (2,), (-1,)), "not the description of a tensor"),
        (Rebuild("0", 4, (2, 2), (1,)), "not the description of a tensor"),
        (Rebuild("0", 5, (2,), (1,)), "16 bytes, not 20"),
        (Rebuild("0", 4, (2,), (1,), kind="QInt8Storage"), "a kind that is not read"),
        (Rebuild("9", 4, (2,), (1,)), "data/9"),
    ],
)
def test_tensors_that_do_not_lie_in_their_numbers_are_refused(tmp_path, tensor, says):
    path = write(tmp_path / "a.pth", {"x": tensor}, {"0": np.zeros(4, "<f4")})
    with pytest.raises(FeatureFileError, match=says):
        read_tensors(path)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"no pickle")
    (tmp_path / "b.pth").write_bytes(pickle.dumps([1, 2], 2) * 5)
    (tmp_path / "c.pth").write_bytes(b"PK\x03\x04 and no more")
    write(tmp_path / "d.pth", {}, {}, [("archive/byteorder", "big")])
    for name in "abcde":
        with pytest.raises(FeatureFileError, match=f"{name}.pth: expected a PyTorch checkpoint"):
            read_tensors(tmp_path / f"{name}.pth")


def test_an_older_file_is_read_without_pytorch(tmp_path):
    numbers = np.arange(3, dtype="<f4")
    tensors = read_tensors(
        write_old(tmp_path / "a.pth", {"x": Rebuild("k", 3, (3,), (1,))}, {"k": numbers})
    )
    np.testing.assert_array_equal(tensors["x"], numbers)


def test_the_number_of_an_object_is_no_larger_than_there_are_operations(tmp_path):
    number = pickle.LONG_BINPUT + (2**31 - 1).to_bytes(4, "little")  # a table of 34 GB
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.EMPTY_DICT + number + pickle.STOP)
    with pytest.raises(FeatureFileError, match="object 2147483647 after 1 operations"):
        read_tensors(tmp_path / "a.pth")


def test_a_part_that_comes_again_and_again_is_looked_at_so_often_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_MAX_OPERATIONS", 10_000)
    same = {"x": 1}
    for _ in range(12):
        same = {str(i): same for i in range(9)}  # 9¹² entries of 12 dictionaries
    with pytest.raises(FeatureFileError, match="10000 entries"):
        read_tensors(write(tmp_path / "a.pth", same, {}))


def test_dictionaries_without_end_are_refused(tmp_path):
    deep = {"x": 1}
    for _ in range(40):
        deep = {"x": deep}
    with pytest.raises(FeatureFileError, match="too deep"):
        read_tensors(write(tmp_path / "a.pth", deep, {}))


@pytest.mark.parametrize("new", [True, False])
def test_what_pytorch_writes_is_read_bit_by_bit(tmp_path, new):
    torch = pytest.importorskip("torch", reason="what is compared with needs PyTorch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = module.state_dict() | {
        "view": whole[1:3, ::2].T,
        "same": whole,
        "half": whole.bfloat16(),
        "empty": whole[:0],
        "parameter": torch.nn.Parameter(whole[0]),
    }
    torch.save({"model": tensors}, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found = read_tensors(tmp_path / "a.pth")
    assert set(found) == {f"model.{name}" for name in tensors}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[f"model.{name}"], tensor.detach().float().numpy())
