"""Builders of published features on tiny trees in the true formats: read back, or refused."""

import json
import zipfile

import h5py
import numpy as np
import published_trees as trees
import pytest
from published_trees import TREES, feature

from unirep_jax.data import FeatureFileError, builders
from unirep_jax.data.builders import DataFolderError, VggsoundAvel40k, avvp
from unirep_jax.data.builders._features import fit_steps
from unirep_jax.data.builders._tables import check_ids
from unirep_jax.data.raw import prepare


def builder_of(name, tmp_path, config=None):
    return TREES[name][1](config=config, data_dir=str(tmp_path / "tfds"))


def read(name, folder, config=None):
    """split -> key -> everything known of an example, features in memory."""
    builder = builder_of(name, folder.parent, config)
    splits = {
        split: {
            key: {"features": builder.features(example), **builder.columns(example)}
            for key, example in examples.items()
        }
        for split, examples in builder.examples(folder).items()
    }
    return builder, splits


def refusal(name, folder, config=None):
    with pytest.raises((DataFolderError, FeatureFileError)) as caught:
        read(name, folder, config)
    return str(caught.value)


def same(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def ends_repeated(array):
    return np.concatenate([array, np.repeat(array[-1:], 10, axis=0)])[:10]


# -- right trees -----------------------------------------------------------------------------------


def test_avel40k_has_the_prompt_of_the_class_as_text(published):
    builder, splits = read("avel40k", published("avel40k"))
    assert builder.class_names() == tuple(trees.EVENTS)
    found = {key: (split, e) for split, part in splits.items() for key, e in part.items()}
    assert set(found) == set(trees.AVEL)
    for name, (c, word, seconds) in trees.AVEL.items():
        split, example = found[name]
        assert split == {"val": "validation"}.get(word, word) and example["label"] == c
        same(example["features"]["audio"], ends_repeated(feature(name, "audio", seconds)))
        same(example["features"]["video"], feature(name, "video"))
        same(example["features"]["text"], trees.vectors_of([f"the sound of {trees.EVENTS[c]}"])[0])


def test_avel40k_without_text_needs_no_prompts(published):
    folder = published("avel40k")
    (folder / "vggsoundCategories2Prompts.csv").unlink()
    (folder / "text_vectors.npz").unlink()
    assert "vggsoundCategories2Prompts.csv: missing" in refusal("avel40k", folder)
    _, splits = read("avel40k", folder, "audio_video")
    assert set(splits["test"]["ddddddddddd"]["features"]) == {"audio", "video"}


def test_ave_numbers_classes_by_their_first_annotation_and_keeps_seconds(published):
    builder, splits = read("ave", published("ave"))
    assert builder.class_names() == tuple(trees.AVE_CLASSES)
    assert list(splits["train"])[:2] == ["0028_video000028", "0000_video000000"]
    for split, word in (("train", "train"), ("validation", "val"), ("test", "test")):
        rows = [int(key[:4]) for key in splits[split]]
        assert rows == trees.AVE_ORDERS[word]
        for row, example in zip(rows, splits[split].values(), strict=True):
            assert example["label"] == row % 28
            for m in ("audio", "video"):
                same(example["features"][m], feature(f"{row:04d}", m))
                np.testing.assert_array_equal(example["events"][m], trees.ave_events()[row])
                assert example["labelled"][m]
    groups = {key: e["group"] for part in splits.values() for key, e in part.items()}
    assert groups["0030_video000000"] == groups["0000_video000000"]
    assert len(set(groups.values())) == trees.AVE_CLIPS - 1


def test_ucf_is_divided_by_the_groups_of_its_first_official_split(published):
    _, splits = read("ucf51", published("ucf51"))
    assert set(splits["test"]) == {"v_Action0_g01_c01", "v_Action17_g07_c01"}
    assert set(splits["train"]) == {"v_Action0_g08_c02", "v_Action50_g25_c04"}
    for i, (name, c) in enumerate(trees.UCF.items()):
        example = (splits["train"] | splits["test"])[name]
        assert example["label"] == c
        same(example["features"]["audio"], ends_repeated(feature(name, "audio", 4 + i)))
        same(example["features"]["video"], ends_repeated(feature(name, "video", 9 + i)))


def test_ucf_is_seen_and_vggsound_is_heard(published):
    builder, splits = read("ucf_vggsound", published("ucf_vggsound"))
    assert builder.class_names()[9:12] == ("Ucf9", "Ucf10", "Ucf11")
    for split, clips, here, absent in (
        ("ucf", trees.SHARED_UCF, "video", "audio"),
        ("vggsound", trees.SHARED_VGG, "audio", "video"),
    ):
        for name, c in clips.items():
            example = splits[split][name]
            assert example["label"] == c and example["present"] == {here: True, absent: False}
            assert not example["features"][absent].any() and example["features"][here].any()


def test_avvp_events_add_up_by_modality(published):
    builder, splits = read("avvp", published("avvp"))
    assert builder.class_names() == tuple(trees.LLP_CLASSES)
    both = splits["validation"]["hhhhhhhhhhh_10_20"]
    expected = np.zeros((10, 25), bool)
    expected[[0, 5, 6, 7, 8], 3] = expected[:, 24] = True
    np.testing.assert_array_equal(both["events"]["audio"], expected)
    expected = np.zeros((10, 25), bool)
    expected[2:4, 3] = True
    np.testing.assert_array_equal(both["events"]["video"], expected)
    heard = splits["validation"]["iiiiiiiiiii_0_10"]
    assert heard["labelled"] == heard["present"] == {"audio": True, "video": False}
    assert not heard["events"]["audio"].any()  # its event ends where it starts
    seen = splits["test"]["jjjjjjjjjjj_5_15"]
    assert seen["present"] == {"audio": False, "video": True} and seen["label"] == -1
    same(both["features"]["audio"], ends_repeated(feature("hhhhhhhhhhh", "audio", 9)))


def test_avvp_may_have_the_original_files_of_one_event_a_row(published, monkeypatch):
    folder = published("avvp")
    combined = folder / "AVVP_eval_audio_checked_combined.csv"
    _, expected = read("avvp", folder)
    rows = [
        [name, *event]
        for name, *columns in trees.HEARD
        for event in zip(*(c.split(",") for c in columns), strict=True)
    ]
    combined.unlink()
    trees.put_table(folder / "AVVP_eval_audio.csv", [trees.HEADER, *rows], "\t")
    monkeypatch.setitem(avvp._FILES["audio"], "AVVP_eval_audio.csv", len(rows))
    _, splits = read("avvp", folder)
    for key, example in splits["validation"].items():
        events = expected["validation"][key]["events"]["audio"]
        np.testing.assert_array_equal(example["events"]["audio"], events)


def test_ave_to_avvp_trains_on_the_one_and_tests_on_the_other(published):
    _, splits = read("ave_avvp", published("ave_avvp"))
    assert list(splits["train"]) == ["ave_0004", "ave_0030"]
    example = splits["train"]["ave_0004"]
    same(example["features"]["video"], feature("0004", "video"))
    assert example["events"]["audio"].sum() == 9 and example["events"]["audio"][3].sum() == 2
    test = splits["test"]["hhhhhhhhhhh_10_20"]
    assert test["events"]["audio"].sum() == 3 and test["events"]["video"].sum() == 2
    assert splits["test"]["jjjjjjjjjjj_5_15"]["labelled"] == {"audio": False, "video": True}


@pytest.mark.parametrize(
    ("name", "key", "file", "modality", "steps", "caption"),
    [
        ("clotho", "a.b#2", "a.b", "audio", 21, 'a.b says, "1"'),
        ("clotho", "c d#5", "c d", "audio", 4, 'c d says, "4"'),
        ("msvd", "clip_2", "clip_2", "video", 6, "a dog, too"),
        ("mscoco", "000000000139#2", "000000000139", "video", 1, "chairs in a room"),
        ("mscoco", "000000000042", "000000000042", "video", 1, "a shoe"),
        ("valor", "o", "o", "audio", 11, "clip o"),
    ],
)
def test_captions_and_clips_are_read_at_even_steps(
    name, key, file, modality, steps, caption, published
):
    _, splits = read(name, published(name))
    example = splits["test"][key]
    places = np.linspace(0, steps - 1, 10).round().astype(int)
    same(example["features"][modality], feature(file, modality, steps)[places])
    same(example["features"]["text"], trees.vectors_of([caption])[0])
    assert example["label"] == -1


def test_the_captions_of_a_clip_are_a_group(published):
    _, splits = read("clotho", published("clotho"))
    groups = [splits["test"][f"{name}#{i}"]["group"] for name in ("a.b", "c d") for i in (1, 5)]
    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_sound_and_image_are_paired_without_words(published):
    _, splits = read("flickr", published("flickr"))
    assert set(splits["test"]) == {"1001", "1002"}
    same(splits["test"]["1001"]["features"]["video"], np.repeat(feature("1001", "video", 1), 10, 0))


def test_drawn_parts_of_valor_have_the_number_in_their_name(published):
    folder = published("valor")
    rows = [{"video_id": "n", "desc": "clip n"}]
    (folder / "random_500.json").write_text(json.dumps(rows))
    assert "random_500.json: expected 500 rows, found 1" in refusal("valor", folder)
    _, splits = read("valor", folder, "partial")
    assert set(splits["random_500"]) == {"n"}


@pytest.mark.parametrize("name", ["ave", "ucf_vggsound", "mscoco"])
def test_tfds_keeps_what_the_builder_reads(name, published):
    folder = published(name)
    _, splits = read(name, folder)
    builder = prepare(TREES[name][1], folder, folder.parent / "tfds")
    for split, examples in splits.items():
        found = {e["id"].decode(): e for e in builder.as_data_source(split)}
        assert set(found) == set(examples)
        for key, example in examples.items():
            assert found[key]["label"] == example["label"]
            for m, x in example["features"].items():
                np.testing.assert_array_equal(found[key]["features"][m], x)
                assert found[key]["present"][m] == example["present"][m]
            for m, x in example.get("events", {}).items():
                np.testing.assert_array_equal(found[key]["events"][m], x)


def test_features_of_the_true_shapes_are_read(tmp_path):
    array = np.random.default_rng(0).standard_normal((10, 7, 7, 512))
    trees.put_zip(tmp_path / "a.zip", array)
    builder = VggsoundAvel40k(config="audio_video", data_dir=str(tmp_path))
    found = builder.features({"audio": None, "video": tmp_path / "a.zip"})
    same(found["video"], array)
    assert found["audio"].shape == (10, 128)


# -- what is missing -------------------------------------------------------------------------------

LOST = {
    "avel40k": ["feature/audio/zip/aaaaaaaaaaa.zip", "feature/video/zip/ddddddddddd.zip"],
    "ucf51": ["feature/video/zip/v_Action0_g01_c01.zip", "feature/audio/zip/v_Action0_g08_c02.zip"],
    "ucf_vggsound": ["ucf/feature/video/zip/v_Bowl_g01_c02.zip"],
    "avvp": ["feature/audio/zip/hhhhhhhhhhh.zip", "feature/video/zip/jjjjjjjjjjj.zip"],
    "ave_avvp": ["feature/audio/zip/hhhhhhhhhhh.zip", "feature/video/zip/jjjjjjjjjjj.zip"],
    "clotho": ["feature/zip/c d.zip"],
    "msvd": ["feature/zip/clip_1.zip", "feature/zip/clip_2.zip"],
    "valor": ["feature/audio/zip/k.zip", "feature/video/zip/n.zip"],
    "flickr": ["feature/image/zip/1001.zip"],
}
TABLES = {
    "avel40k": ["vggsound-avel40k.csv", "VggsoundAVEL40kCategories.txt"],
    "ave": ["visual_feature.h5", "labels.h5", "val_order.h5", "Annotations.txt"],
    "ucf51": ["ucf51checked.csv", "UCF51Categories.txt"],
    "ucf_vggsound": ["ucf2vggsound.csv", "VGGSoundsameUCF101.txt"],
    "avvp": ["AVVP_eval_audio_checked_combined.csv", "AVVP_Categories.txt", "AVVP_test_pd.csv"],
    "ave_avvp": ["ave/audio_feature.h5", "ave_avvp_order.h5", "AVE_AVVP_Categories.txt"],
    "valor": ["desc_train.json", "desc_val.json"],
    "mscoco": ["val_part_1.json", "feature/zip"],
}


@pytest.mark.parametrize("name", LOST)
def test_all_missing_features_are_named_at_once_and_once(name, published, tmp_path):
    folder = published(name)
    for lost in LOST[name]:
        (folder / lost).unlink()
    with pytest.raises(DataFolderError) as caught:
        builder_of(name, tmp_path).examples(folder)
    assert sorted(caught.value.problems) == sorted(f"{lost}: missing" for lost in LOST[name])


@pytest.mark.parametrize("name", TABLES)
def test_all_missing_tables_are_named_at_once(name, published, tmp_path):
    folder = published(name)
    for i, lost in enumerate(TABLES[name]):
        (folder / lost).rename(tmp_path / f"moved{i}")
    with pytest.raises(DataFolderError) as caught:
        builder_of(name, tmp_path).examples(folder)
    assert sorted(caught.value.problems) == sorted(f"{lost}: missing" for lost in TABLES[name])


def test_another_number_of_examples_than_the_published_is_refused(published, monkeypatch):
    folder = published("ucf51")
    monkeypatch.setattr(builders.Ucf51, "expected", lambda self: {"train": 4889, "test": 2})
    assert "expected 4889 train examples, found 2" in refusal("ucf51", folder)


def test_a_partial_copy_is_read_as_far_as_it_goes(published):
    folder = published("avel40k")
    (folder / LOST["avel40k"][0]).unlink()
    with pytest.warns(UserWarning) as caught:
        _, splits = read("avel40k", folder, "partial")
    assert any("the examples of 1 missing files" in str(w.message) for w in caught)
    assert set(splits["train"]) == {"bbbbbbbbbbb"}


# -- what is wrong with a table --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "problem"),
    [
        ("avel40k", "vggsound-avel40k.csv", "video_id", "id", "column 'video_id': not among"),
        ("avel40k", "vggsound-avel40k.csv", "bbbbbbbbbbb", "aaaaaaaaaaa", "listed 2 times"),
        ("avel40k", "vggsound-avel40k.csv", "bbbbbbbbbbb", "../b", "id '../b': not the name of a"),
        ("avel40k", "vggsound-avel40k.csv", "ddddddddddd,test", "ddddddddddd", "expected 3 fields"),
        ("avel40k", "vggsound-avel40k.csv", "ddddddddddd,test", ",test", "'video_id' is empty"),
        ("avel40k", "vggsound-avel40k.csv", "ddddddddddd,test", "d,dev", "split 'dev': unknown"),
        ("avel40k", "vggsound-avel40k.csv", "event 140", "event 999", "class 'event 999, of a"),
        ("avel40k", "VggsoundAVEL40kCategories.txt", "event 7,", "event 8,", "listed 2 times"),
        ("avel40k", "VggsoundAVEL40kCategories.txt", "event 9, of a kind\n", "", "found 140"),
        ("avel40k", "vggsoundCategories2Prompts.csv", '"event 5,', '"event 55,', "listed 2 times"),
        ("avel40k", "vggsoundCategories2Prompts.csv", "sound of event 5,", "x", "no vectors of"),
        ("ave", "Annotations.txt", "&good&3&7", "&3&7", "expected five fields"),
        ("ave", "Annotations.txt", "Sound 5, loud", "Sound 4, loud", "28 classes, found 27"),
        ("ucf51", "ucf51checked.csv", "_g25_c04", "", "not named v_CLASS_gGROUP_cNUMBER"),
        ("ucf51", "ucf51checked.csv", "g08_c02", "g01_c01", "listed 2 times"),
        ("ucf51", "UCF51Categories.txt", "Action3\n", "", "expected 51 classes, found 50"),
        ("ucf_vggsound", "UCF101sameVGGSound.txt", "Ucf3\n", "", "expected 16 classes, found 15"),
        ("ucf_vggsound", "vggsound2ucf.csv", "fffffffffff", "..", "not the name of a file"),
        ("avvp", "AVVP_eval_audio_checked_combined.csv", "0,5,0", "0,5", "as many onsets"),
        ("avvp", "AVVP_eval_audio_checked_combined.csv", "1,9,10", "1,9,11", "as many onsets"),
        ("avvp", "AVVP_eval_audio_checked_combined.csv", "1,9,10", "1,9,x", "as many onsets"),
        ("avvp", "AVVP_eval_audio_checked_combined.csv", "Event_0", "Event", "class 'Event'"),
        ("avvp", "AVVP_Categories.txt", "Event_7\n", "", "expected 25 classes, found 24"),
        ("clotho", "clotho_captions_evaluation.csv", "c d.wav", "a.b.wav", "a.b: listed 2 times"),
        ("clotho", "clotho_captions_evaluation.csv", "c d.wav", '"c\nd.wav"', "not the name of a"),
        ("clotho", "clotho_captions_evaluation.csv", "a.b says", "a.b said", "no vectors of"),
        ("mscoco", "val_part_1.json", '"image_id": 42', '"image_id": "../42"', "expected a number"),
        ("mscoco", "val_part_1.json", '"caption": "a shoe"', '"text": ""', "expected image_id, c"),
        ("mscoco", "val_part_1.json", "annotations", "captions", "list of objects under"),
        ("valor", "desc_val.json", "[{", "{", "expected JSON"),
        ("valor", "desc_val.json", '"clip m"', "7", "expected two texts"),
    ],
)
def test_tables_that_are_wrong_are_refused(name, file, old, new, problem, published):
    folder = published(name)
    content = (folder / file).read_text("utf-8")
    assert old in content
    (folder / file).write_text(content.replace(old, new), "utf-8")
    message = refusal(name, folder)
    assert problem in message and str(folder) in message


def test_a_table_of_another_length_than_the_published_is_refused(published):
    folder = published("avvp")
    path = folder / "AVVP_eval_visual_checked_combined.csv"
    path.write_text(path.read_text() + "iiiiiiiiiii_0_10\t0\t1\tEvent_0\n")
    assert f"{path}: expected 2 rows, found 3" in refusal("avvp", folder)


def test_a_table_in_another_encoding_or_deeply_nested_is_refused(published):
    folder = published("mscoco")
    path = folder / "val_part_1.json"
    path.write_bytes(b'{"annotations": "\xe9"}')
    assert f"{path}: expected UTF-8 text" in refusal("mscoco", folder)
    path.write_text("[" * 100_000)
    assert f"{path}: expected JSON" in refusal("mscoco", folder)


# -- what is wrong with h5 -------------------------------------------------------------------------


def test_an_h5_file_cut_anywhere_is_refused(published):
    folder = published("ave")
    for name in ("audio_feature.h5", "labels.h5", "train_order.h5"):
        path = folder / name
        whole = path.read_bytes()
        for length in (0, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            assert name in refusal("ave", folder)
        path.write_bytes(whole)


WRONG_H5 = {
    "audio_feature.h5": {
        "another length": np.zeros((31, 9, 128)),
        "fewer rows": np.zeros((30, 10, 128)),
        "text": np.full((31, 10, 128), b"a"),
    },
    "labels.h5": {
        "another number of classes": np.zeros((31, 10, 28)),
        "another class": np.tile(np.arange(29) == 9, (31, 10, 1)).astype(int),
        "nothing": np.zeros((31, 10, 29), int),
        "not a number": np.full((31, 10, 29), np.nan),
        "two classes": np.tile(np.arange(29) < 2, (31, 10, 1)).astype(int),
    },
    "test_order.h5": {
        "a row beyond the last": np.array([31]),
        "a row twice": np.array([30, 30]),
        "a row of another part": np.array([0]),
        "fractions": np.array([30.0]),
    },
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in WRONG_H5.items() for case in cases]
)
def test_an_h5_array_that_is_wrong_is_named(name, case, published):
    folder = published("ave")
    key = "order" if "order" in name else "avadataset"
    trees.put_h5(folder / name, key, WRONG_H5[name][case])
    message = refusal("ave", folder)
    assert str(folder) in message
    assert "row" in message or name in message


def test_an_h5_file_with_another_key_or_data_elsewhere_is_refused(published, tmp_path):
    folder = published("ave")
    path = folder / "audio_feature.h5"
    path.rename(tmp_path / "elsewhere.h5")
    trees.put_h5(path, "dataset", np.zeros(3))
    assert "no 'avadataset' itself, only dataset" in refusal("ave", folder)
    with h5py.File(path, "w") as file:
        file["avadataset"] = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "avadataset")
    assert "no 'avadataset' itself" in refusal("ave", folder)
    with h5py.File(path, "w") as file:
        secret = [(str(tmp_path / "secret"), 0, 31 * 10 * 128 * 8)]
        file.create_dataset("avadataset", (31, 10, 128), "f8", external=secret)
    assert "data in another file" in refusal("ave", folder)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((31, 10, 128), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "elsewhere.h5"), "avadataset", (31, 10, 128))
        file.create_virtual_dataset("avadataset", layout)
    assert "data in another file" in refusal("ave", folder)
    with h5py.File(path, "w") as file:
        file.create_group("avadataset")
    assert "TypeError: a group" in refusal("ave", folder)


def test_labels_that_contradict_the_annotations_are_refused(published):
    folder = published("ave")
    events = trees.ave_events()
    events[5] = np.roll(events[5], 1, axis=-1)
    trees.put_h5(folder / "labels.h5", "avadataset", trees.background(events).astype(int))
    assert "row 5: classes [6] in labels.h5, 5 in Annotations.txt" in refusal("ave", folder)


# -- what is wrong with a feature ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((9, *trees.VIDEO[1:])), "float64 (9, 2, 2, 3)"),
        (np.zeros((11, *trees.VIDEO[1:])), "float64 (11, 2, 2, 3)"),
        (np.zeros((10, 2, 2, 4)), "float64 (10, 2, 2, 4)"),
        (np.zeros((10, 12)), "float64 (10, 12)"),
        (np.zeros(trees.VIDEO, int), "int64 (10, 2, 2, 3)"),
    ],
)
def test_video_of_another_shape_or_kind_is_named(array, found, published):
    folder = published("avel40k")
    path = folder / "feature/video/zip/ddddddddddd.zip"
    trees.put_zip(path, array)
    assert refusal("avel40k", folder) == f"{path}: expected floats (10, 2, 2, 3), found {found}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_a_value_that_is_not_finite_is_named_with_its_file(value, published):
    folder = published("avel40k")
    path = folder / "feature/audio/zip/ddddddddddd.zip"
    array = np.zeros((12, 128))
    array[3, 7] = value
    trees.put_zip(path, array)
    message = refusal("avel40k", folder)
    assert message.startswith(f"{path}: expected finite float32 values, found ")


def test_sound_without_a_step_is_refused(published):
    folder = published("avel40k")
    path = folder / "feature/audio/zip/ddddddddddd.zip"
    trees.put_zip(path, np.zeros((0, 128)))
    assert f"{path}: expected floats (time, 128)" in refusal("avel40k", folder)


def test_damaged_and_foreign_zip_files_are_named(published):
    folder = published("avel40k")
    path = folder / "feature/audio/zip/ddddddddddd.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert f"{path}: expected a zip file with one pickled array" in refusal("avel40k", folder)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.pkl", b"cos\nsystem\n(S'exit 1'\ntR.")
    assert f"{path}: expected a zip file with one pickled array" in refusal("avel40k", folder)
    path.write_bytes(b"")
    assert "ddddddddddd.zip: empty file" in refusal("avel40k", folder)


@pytest.mark.parametrize(
    ("texts", "vector", "problem"),
    [
        (["a", "b"], np.zeros((2, 9, 768)), "shape (2, 10, 768)"),
        (["a", "b"], np.zeros((1, 10, 768)), "shape (2, 10, 768)"),
        (["a", "a"], np.zeros((2, 10, 768)), "'a' twice"),
        (["a", "b"], np.zeros((2, 10, 768), int), "a float array"),
        ([1, 2], np.zeros((2, 10, 768)), "a string array"),
        (["a cat runs", "a dog, too"], np.full((2, 10, 768), np.nan), "finite float32 values"),
    ],
)
def test_text_vectors_that_are_wrong_are_refused(texts, vector, problem, published):
    folder = published("msvd")
    np.savez(folder / "text_vectors.npz", text=np.array(texts), vector=vector)
    assert problem in refusal("msvd", folder)


def test_text_vectors_may_be_a_folder_but_not_both(published):
    folder = published("msvd")
    _, expected = read("msvd", folder)
    with np.load(folder / "text_vectors.npz") as archive:
        (folder / "text_vectors").mkdir()
        for key in archive:
            np.save(folder / f"text_vectors/{key}.npy", archive[key])
    assert "both are there" in refusal("msvd", folder)
    (folder / "text_vectors.npz").unlink()
    _, splits = read("msvd", folder)
    same(
        splits["test"]["clip_1"]["features"]["text"],
        expected["test"]["clip_1"]["features"]["text"],
    )


def test_fitting_keeps_ten_steps_as_they_are_in_every_way():
    array = np.arange(20.0).reshape(10, 2)
    for how in ("exact", "cut", "spread"):
        np.testing.assert_array_equal(fit_steps(array, (10, 2), how, "x"), array)


# -- the real tables -------------------------------------------------------------------------------


def with_folders(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
    return folder


def test_the_real_ucf_tables_have_the_published_numbers(split_file, tmp_path):
    for name in ("ucf51checked.csv", "UCF51Categories.txt"):
        split_file(f"oscmg/{name}", tmp_path / "ucf")
    folder = with_folders(tmp_path / "ucf", "feature/audio/zip", "feature/video/zip")
    builder = builder_of("ucf51", tmp_path)
    splits = builder.index(folder)
    assert {s: len(part) for s, part in splits.items()} == builder.expected()
    official = {
        line.split("/")[1].split(".")[0]
        for line in split_file("ucf101/testlist01.txt").read_text().split()
    }
    assert set(splits["test"]) == official & {*splits["train"], *splits["test"]}
    for known, kept in ((17, 2289), (34, 4623)):
        lists = split_file(f"oscmg/ucf51checked_{known}.csv").read_text().splitlines()[1:]
        clips = {line.split(",")[1] for line in lists}
        found = {k for part in splits.values() for k, e in part.items() if e["label"] < known}
        assert found == clips and len(found) == kept


def test_the_real_llp_tables_are_read_whole(split_file, tmp_path):
    for name in ("AVVP_eval_audio.csv", "AVVP_eval_visual.csv", "AVVP_test_pd.csv"):
        split_file(f"llp/{name}", tmp_path / "llp")
    folder = with_folders(tmp_path / "llp", "feature/audio/zip", "feature/video/zip")
    rows = (folder / "AVVP_eval_audio.csv").read_text().splitlines()[1:]
    trees.put_lines(folder / "AVVP_Categories.txt", sorted({r.split("\t")[3] for r in rows}))
    splits = builder_of("avvp", tmp_path).index(folder)
    clips = {**splits["validation"], **splits["test"]}
    heard = [e for e in clips.values() if e["events"]["audio"] is not None]
    seen = [e for e in clips.values() if e["events"]["video"] is not None]
    assert (len(heard), len(seen), len(clips)) == (1848, 1665, 1857)
    assert sum(e["events"]["audio"] is not None for e in splits["test"].values()) == 1195


def test_the_real_clotho_table_has_five_captions_of_every_clip(split_file, tmp_path):
    path = split_file("captions/clotho_test.csv")
    clips = builder_of("clotho", tmp_path).clips(path)
    assert len(clips) == 1045 and {len(clip.captions) for clip in clips} == {5}
    assert clips[0].name == "Santa Motor"
    check_ids(path, (clip.name for clip in clips))
