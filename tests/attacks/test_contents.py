"""Files that are whole and untrusted: bombs, ways out, repeats, strange names and values."""

import json
import sys
import zipfile

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import untrusted
from containers import unit_rows

from unirep_jax.connect.__main__ import main
from unirep_jax.data import FeatureFileError, load_features, save_features, standardization
from unirep_jax.data.banks import open_bank, write_bank
from unirep_jax.data.builders import DataFolderError
from unirep_jax.data.builders._h5 import h5_array
from unirep_jax.data.builders._manual import image_bytes
from unirep_jax.data.builders._tables import check_ids, records, table
from unirep_jax.data.builders._text_vectors import TextVectors
from unirep_jax.train.logs import read_log

# -- bombs -----------------------------------------------------------------------------------------


def npy_header(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_an_archive_that_becomes_larger_than_memory_is_refused_unread(tmp_path, monkeypatch):
    path = untrusted.feature_file(tmp_path / "set.npz")
    monkeypatch.setattr("unirep_jax.data.members.memory", lambda: 100)
    with pytest.raises(
        FeatureFileError, match=r"set\.npz: .*memory; a folder of \.npy files stays"
    ):
        load_features(path)


def test_a_member_that_says_it_has_gigabytes_costs_nothing(tmp_path):
    header = npy_header((4, 1 << 20, 250))
    path = untrusted.zip_bomb(tmp_path / "set.npz", "modality/sight.npy", 0xFFFF0000, header)
    with zipfile.ZipFile(path, "a") as archive:
        np.savez(tmp_path / "rest.npz", **untrusted.feature_arrays())
        with zipfile.ZipFile(tmp_path / "rest.npz") as rest:
            for name in rest.namelist():
                if "sight" not in name:
                    archive.writestr(name, rest.read(name))
    with pytest.raises(FeatureFileError, match=r"set\.npz: "):
        load_features(path)


@pytest.mark.parametrize("shape", [(4, 1 << 40, 3), (1 << 62, 4), (4, 0, 3), (4, -1, 3)])
def test_a_header_of_any_length_of_time_is_refused_in_a_folder(tmp_path, shape):
    folder = untrusted.feature_folder(tmp_path / "set")
    (folder / "modality/sight.npy").write_bytes(npy_header(shape) + bytes(1000))
    with pytest.raises(FeatureFileError, match="set: modality/sight: "):
        load_features(folder)


def test_a_file_that_has_a_huge_length_of_time_in_holes_is_refused_unread(tmp_path):
    folder = untrusted.feature_folder(tmp_path / "set")
    with (folder / "modality/sight.npy").open("wb") as file:
        header = npy_header((4, 1 << 30, 3))
        file.write(header)
        file.truncate(len(header) + 4 * (1 << 30) * 3 * 4)  # 48 GiB that take no place
    with pytest.raises(FeatureFileError, match=r"modality/sight: expected examples of 1 GiB or"):
        load_features(folder)


def test_an_h5_array_of_nothing_but_fill_values_is_refused_unread(tmp_path):
    with h5py.File(tmp_path / "order.h5", "w") as file:
        file.create_dataset("order", (1 << 40,), "i8", chunks=(1 << 16,), compression="gzip")
    assert (tmp_path / "order.h5").stat().st_size < 1 << 16
    with pytest.raises(FeatureFileError, match=r"order\.h5: order: .* bytes, more than"):
        h5_array(tmp_path / "order.h5", "order", (None,))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '[{"id": ' + "9" * 5000 + "}]", '{"id": 1}', "[]", "[1]", "NaN"]
)
def test_json_that_is_no_list_of_objects_is_named(tmp_path, text):
    (tmp_path / "clips.json").write_text(text)
    with pytest.raises(DataFolderError, match=r"clips\.json"):
        records(tmp_path / "clips.json", "id")


def test_a_table_with_a_field_without_end_is_named(tmp_path):
    (tmp_path / "clips.csv").write_text('id\n"' + "x" * 200_000)
    with pytest.raises(DataFolderError, match=r"clips\.csv: expected a table"):
        table(tmp_path / "clips.csv", "id")


def test_a_picture_that_would_start_a_program_is_no_picture(tmp_path, trace):
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({trace}) (w) file\n%%EOF\n"
    (tmp_path / "a.jpg").write_text(program)
    with pytest.raises(DataFolderError, match=r"a\.jpg: expected a whole image"):
        image_bytes(tmp_path / "a.jpg")


# -- ways out --------------------------------------------------------------------------------------

OUTSIDE = ["../outside", "/outside", "a/../../outside", "..\\outside", "..", "", "a\nb", "a\0b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_member_or_id_leads_out_of_its_folder(tmp_path, name):
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(DataFolderError, match="not the name of a file"):
        check_ids(inside, [name])
    with zipfile.ZipFile(untrusted.feature_file(inside / "set.npz"), "a") as archive:
        archive.writestr(f"modality/{name}.npy".replace("\0", "_"), b"")
    with pytest.raises(FeatureFileError, match=r"set\.npz"):
        load_features(inside / "set.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert sorted(p.name for p in inside.iterdir()) == ["set.npz"]


def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(tmp_path):
    secret = tmp_path / "secret.npz"
    secret.write_bytes(b"precious")
    for name in ("set.npz", "bank.npy"):
        (tmp_path / name).symlink_to(secret)
    save_features(tmp_path / "set.npz", untrusted.feature_set())
    write_bank(tmp_path / "bank.npy", unit_rows(3), name="bank")
    assert secret.read_bytes() == b"precious"
    assert load_features(tmp_path / "set.npz") and open_bank(tmp_path / "bank.npy")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="set is a folder that exists"):
        save_features(tmp_path / "set", untrusted.feature_set())
    assert not list((tmp_path / "elsewhere").iterdir())


# -- repeats and names -----------------------------------------------------------------------------


def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path):
    path = untrusted.feature_file(tmp_path / "set.npz")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("label.npy", archive.read("label.npy"))
    with pytest.raises(FeatureFileError, match=r"set\.npz: .*'label' 2 times"):
        load_features(path)


def test_a_text_that_comes_twice_has_no_vectors(tmp_path):
    vectors = np.ones((2, 3, 4), np.float32)
    np.savez(tmp_path / "text_vectors.npz", text=np.array(["a", "a"]), vector=vectors)
    with pytest.raises(FeatureFileError, match=r"text_vectors\.npz: text: .*'a' twice"):
        TextVectors(tmp_path, (3, 4))


NAMES = ["größe", "猫", "🎵" * 40, "e\u0301", "\u202egnp.exe", "a b", "-rf"]


@pytest.mark.parametrize("name", NAMES)
def test_files_and_classes_may_have_any_name(tmp_path, name):
    made = untrusted.feature_file(tmp_path / f"{name}.npz", class_name=np.array([name, "cat"]))
    loaded = load_features(made)
    shown = name.replace("\u202e", "\N{REPLACEMENT CHARACTER}")  # it turns what follows around
    assert loaded.name == shown and loaded.class_names[0] == shown
    save_features(tmp_path / f"{name} again", loaded)
    assert load_features(tmp_path / f"{name} again").class_names == loaded.class_names
    write_bank(tmp_path / f"{name}.npy", unit_rows(3), name=name)
    assert open_bank(tmp_path / f"{name}.npy", verify=True).name == name


@pytest.mark.parametrize("modality", ["größe", "a.b", "a b", "", "1st", "sight\n"])
def test_a_modality_has_a_plain_name(tmp_path, modality):
    arrays = untrusted.feature_arrays()
    made = untrusted.feature_file(tmp_path / "set.npz")
    np.savez(made, **arrays, **{f"modality/{modality}": arrays["modality/sound"]})
    with pytest.raises(FeatureFileError, match="letters, digits"):
        load_features(made)


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "a\nerror: b", "\u202egnp", "x" * 60_000])
def test_names_in_a_file_do_not_write_to_the_terminal(tmp_path, name):
    path = untrusted.feature_file(tmp_path / "set.npz", **{name: np.ones(3)})
    with pytest.raises(FeatureFileError) as caught:
        load_features(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 3000
    (tmp_path / "clips.csv").write_text(f'id,"{name}"\na,b\n')
    with pytest.raises(DataFolderError) as caught:
        table(tmp_path / "clips.csv", "label")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 3000


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [untrusted.feature_file, untrusted.feature_folder])
def test_a_value_that_is_not_finite_is_named_with_file_modality_and_row(tmp_path, form, value):
    sight = untrusted.feature_arrays()["modality/sight"]
    sight[2, 1, 0] = value
    path = tmp_path / ("set.npz" if form is untrusted.feature_file else "set")
    with pytest.raises(FeatureFileError, match=rf"set.*: modality/sight: .* {value} in row 2"):
        load_features(form(path, modality__sight=sight))


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-38, 1e-20, 1e20, 1e38])
def test_the_smallest_and_largest_numbers_are_standardised_to_finite_ones(tmp_path, scale):
    arrays = untrusted.feature_arrays(64)
    sight = (np.sign(arrays["modality/sight"]) * np.float32(scale)).astype(np.float32)
    path = tmp_path / "set.npz"
    np.savez(path, **arrays | {"modality/sight": sight})
    loaded = load_features(path)
    for modality, (mean, deviation) in standardization(loaded).items():
        x = jnp.asarray(loaded.features[modality].reshape(-1, len(mean)))
        made = (x - mean[None]) / deviation[None]
        assert np.isfinite(mean).all() and (deviation > 0).all() and np.isfinite(made).all()


@pytest.mark.parametrize("form", [untrusted.feature_file, untrusted.feature_folder])
def test_a_set_of_no_example_or_of_sequences_without_a_step_is_refused(tmp_path, form):
    empty = {k.replace("/", "__"): x[:0] for k, x in untrusted.feature_arrays().items()}
    path = tmp_path / ("set.npz" if form is untrusted.feature_file else "set")
    with pytest.raises(FeatureFileError, match=r"set.*: (label|modality/sight|split)"):
        load_features(form(path, **empty | {"class_name": np.array(["a"])}))
    with pytest.raises(FeatureFileError, match=r"modality/sight"):
        load_features(form(path, modality__sight=np.ones((4, 0, 3), np.float32)))


# -- lines and commands ----------------------------------------------------------------------------


def test_lines_of_a_log_that_are_damaged_are_left_out(tmp_path):
    right = {"step": 20, "loss": 1.5}
    wrong = [
        "",
        "[" * 100_000,
        '{"step": 3}',
        '{"step": -1, "loss": 1}',
        '{"step": 30, "loss": 1e999}',
        f'{{"step": {10**400}, "loss": 1}}',
        f'{{"step": 30, "loss": {10**400}}}',
        "[1]",
        "null",
        '{"loss": 1}',
        '{"step": "20"}',
        '{"step": 40, "lo',
    ]
    lines = [json.dumps(right), *wrong, json.dumps(right | {"note": "text"})]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_log(tmp_path / "metrics.jsonl") == [right, right]


@pytest.mark.parametrize("spoil", ["pickle", "objects", "empty", "cut"])
@pytest.mark.parametrize("option", ["label", "boxes"])
def test_a_command_ends_in_one_line(tmp_path, trace, option, spoil, monkeypatch):
    write_bank(tmp_path / "a.npy", unit_rows(4), name="a")
    path = tmp_path / ("label.npy" if option == "label" else "boxes.npz")
    content = np.arange(4) if spoil == "cut" else untrusted.objects(trace)
    if option == "label":
        untrusted.npy(path, content)
    else:
        np.savez(path, truth_box=content)
    if spoil in ("pickle", "empty", "cut"):
        whole = path.read_bytes()
        contents = {"pickle": untrusted.pickled(trace), "empty": b"", "cut": whole[:-9]}
        path.write_bytes(contents[spoil])
    bank = str(tmp_path / "a.npy")
    command = ["retrieve", f"--first={bank}", f"--second={bank}", f"--label={path}"]
    if option == "boxes":
        command = ["localize", f"--audio={bank}", f"--proposals={bank}", f"--boxes={path}"]
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert str(caught.value).startswith(f"error: {path}") and sys.exc_info()[0] is None
