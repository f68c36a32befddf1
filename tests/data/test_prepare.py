"""Conversion of published features: what training then maps, all of it or nothing."""

import io
import json
import re
import types
from pathlib import Path

import numpy as np
import published_trees as trees
import pytest
from published_trees import TREES, feature

from unirep_jax.data import FeatureFileError, builders, gather, load_features, prepare
from unirep_jax.data.builders import DataFolderError, OpenSetCounts
from unirep_jax.data.builders.ave import read_annotations
from unirep_jax.data.prepare import convert, count_open_set
from unirep_jax.data.prepared import load_prepared


def converted(name, folder, out, config=None, **settings):
    builder = TREES[name][1](config=config, data_dir=str(folder.parent / "tfds"))
    return convert(builder, folder, out, **settings)


# -- what is written -------------------------------------------------------------------------------


def test_training_rows_come_first_and_are_mapped(published, tmp_path):
    out = tmp_path / "new/avel40k"
    recipe = converted("avel40k", published("avel40k"), out)
    loaded = load_features(out)
    assert loaded.modalities == ("audio", "text", "video")
    assert all(isinstance(x, np.memmap) and x.dtype == np.float32 for x in loaded.features.values())
    found = load_prepared(out)
    assert found.ids == ("aaaaaaaaaaa", "bbbbbbbbbbb", "-c_ccccccc-", "ddddddddddd")
    np.testing.assert_array_equal(loaded.train, [True, True, True, False])
    np.testing.assert_array_equal(loaded.label, [3, 140, 3, 0])
    assert loaded.class_names == tuple(trees.EVENTS) and found.events is None
    for row, name in enumerate(found.ids):
        video = feature(name, "video").astype(np.float32)
        np.testing.assert_array_equal(loaded.features["video"][row], video)
    assert recipe["rows"] == {"train": 3, "test": 1} == found.recipe["rows"]
    assert [p.name for p in out.parent.iterdir()] == ["avel40k"]  # nothing is left beside it


def test_the_parts_of_the_authors_may_share_examples(published, tmp_path):
    converted("ucf51", published("ucf51"), tmp_path / "set", part="authors")
    found = load_prepared(tmp_path / "set")
    assert len(found.ids) == 8 and found.ids[:4] == found.ids[4:]
    np.testing.assert_array_equal(found.features.train, np.arange(8) < 4)
    audio = found.features.features["audio"]
    np.testing.assert_array_equal(audio[:4], audio[4:])


def test_absent_modalities_take_no_place_and_read_as_zero(published, tmp_path):
    converted("ucf_vggsound", published("ucf_vggsound"), tmp_path / "set")
    loaded = load_features(tmp_path / "set")
    np.testing.assert_array_equal(loaded.present["video"], [True, True, False, False, False] * 2)
    np.testing.assert_array_equal(loaded.present["audio"], ~loaded.present["video"])
    batch = gather(loaded, [0, 2])
    assert batch["features"]["video"][0].any() and not batch["features"]["video"][1].any()
    assert batch["features"]["audio"][1].any() and not batch["features"]["audio"][0].any()


def test_events_of_each_second_lie_beside_the_features(published, tmp_path):
    converted("avvp", published("avvp"), tmp_path / "set", part="authors")
    found = load_prepared(tmp_path / "set")
    assert found.ids[:3] == ("hhhhhhhhhhh_10_20", "iiiiiiiiiii_0_10", "jjjjjjjjjjj_5_15")
    for m, labelled in (("audio", [True, True, False]), ("video", [True, False, True])):
        np.testing.assert_array_equal(found.events.labelled[m], labelled * 2)
        np.testing.assert_array_equal(found.features.present[m], labelled * 2)
    assert found.events.events["audio"].shape == (6, 10, 25)
    np.testing.assert_array_equal(found.events.events["video"][0, :, 3], [0, 0, 1, 1] + [0] * 6)
    np.testing.assert_array_equal(found.events.events["video"][2, :, 1], np.ones(10))
    assert (found.features.label == -1).all() and found.features.num_classes == 25


def test_features_may_be_kept_in_half_precision(published, tmp_path):
    folder = published("flickr")
    converted("flickr", folder, tmp_path / "set", dtype="float16")
    audio = load_prepared(tmp_path / "set").features.features["audio"]
    places = np.linspace(0, 19, 10).round().astype(int)
    expected = feature("1001", "audio", 20)[places].astype(np.float32).astype(np.float16)
    np.testing.assert_array_equal(audio[0], expected)
    assert audio.dtype == np.float16
    path = folder / "feature/audio/zip/1002.zip"
    trees.put_zip(path, np.full((3, 128), 1e5))
    with pytest.raises(FeatureFileError, match="within float16, found 100000"):
        converted("flickr", folder, tmp_path / "other", dtype="float16")
    assert not (tmp_path / "other").exists()


def test_a_set_without_training_examples_is_for_evaluation_alone(published, tmp_path):
    converted("clotho", published("clotho"), tmp_path / "set")
    with pytest.raises(FeatureFileError, match="at least one train example"):
        load_features(tmp_path / "set")
    found = load_prepared(tmp_path / "set")
    assert not found.features.train.any() and len(found.features.label) == 10
    np.testing.assert_array_equal(found.features.group, [0] * 5 + [1] * 5)
    assert found.recipe["captions"] == "text" and found.features.class_names == ()


@pytest.mark.parametrize("name", [n for n in TREES if n not in ("clotho", "flickr")])
def test_every_set_can_be_converted_and_loaded(name, published, tmp_path):
    builder, sizes = TREES[name][1:]
    for part, (train, test) in builder.PARTS.items():
        if part.startswith("random_"):
            continue
        converted(name, published(name), tmp_path / part, part=part)
        found = load_prepared(tmp_path / part)
        count = lambda names: sum(sizes[split] for split in names.split("+") if split)
        assert found.features.train.sum() == count(train)
        assert len(found.features.label) == count(train) + count(test) == len(found.ids)
        (tmp_path / "published" / name).rename(tmp_path / f"used {part}")


def test_the_command_prints_what_it_made(published, tmp_path, capsys, monkeypatch):
    folder, out = published("ave"), tmp_path / "features"
    counts = (
        OpenSetCounts("audio", "video", 14, 15, 1, 0),
        OpenSetCounts("video", "audio", 2, 3, 0, 1),
    )
    monkeypatch.setattr(builders.Ave, "OPEN_SETS", {"official": counts})
    prepare.main(["ave", f"--manual_dir={folder}", f"--out={out}"])
    printed = capsys.readouterr()
    assert "28 training examples (train), 1 test examples (test)" in printed.out
    assert "audio to video, 14 known classes: 15 training, 1 known and 0 unknown" in printed.out
    assert load_prepared(out).recipe["open_sets"][1]["train"] == 3
    prepare.main(["ave", f"--manual_dir={folder}", f"--out={out}"])  # leaves it as it is
    assert capsys.readouterr().out == printed.out


def test_progress_is_shown_where_somebody_looks(published, tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    converted("msvd", published("msvd"), tmp_path / "set")
    assert "2/2" in screen.getvalue()


# -- numbers ---------------------------------------------------------------------------------------


def test_another_number_of_open_set_examples_than_published_is_refused(
    published, tmp_path, monkeypatch
):
    folder = published("ave")
    counts = (OpenSetCounts("audio", "video", 2, 3, 1, 0),)
    monkeypatch.setattr(builders.Ave, "OPEN_SETS", {"official": counts})
    with pytest.raises(DataFolderError, match="audio to video, 2 known classes: expected 3 train"):
        converted("ave", folder, tmp_path / "set")
    recipe = converted("ave", folder, tmp_path / "set", config="partial")
    assert recipe["open_sets"][0]["test_unknown"] == 1


def test_the_published_open_sets_are_those_of_the_real_tables(split_file, shared_data, tmp_path):
    """Of the class labels and parts alone: the features are not at hand."""
    splits = shared_data("utd_mhad").parents[1] / "splits"
    clips = read_annotations(split_file("ave/Annotations.txt"))
    first = list(dict.fromkeys(category for category, _ in clips))
    with np.load(splits / "ave/ave.npz") as archive:
        order = np.concatenate([archive["train"], archive["test"]])
        columns = {
            "label": np.array([first.index(category) for category, _ in clips])[order],
            "train": np.arange(len(order)) < len(archive["train"]),
        }
        # no clip has an event but that of its annotation, as the builder asks
        second = archive["second"]
        names = archive["class_name"]
    foreground = [set(row) - {28} for row in second.tolist()]
    assert all(
        {names[c] for c in classes} <= {category}
        for classes, (category, _) in zip(foreground, clips, strict=True)
    )
    columns["present"] = {m: np.ones(len(order), bool) for m in ("audio", "video")}
    for want in builders.Ave.OPEN_SETS["official"]:
        assert count_open_set(columns, want.source, want.target, want.known) == want
    for known in (14, 21):
        listed = split_file(f"oscmg/trainSet_{known}.txt").read_text().split("\n")
        train = columns["label"][columns["train"]] < known
        videos = [clips[row][1] for row in order[columns["train"]][train]]
        assert videos == [line.split("&")[1] for line in listed if line]


@pytest.mark.parametrize("known", [8, 12])
def test_the_published_open_sets_of_ucf_and_vggsound_have_as_many_rows(known, split_file):
    rows = lambda name: len(split_file(f"oscmg/{name}_{known}.csv").read_text().splitlines()) - 1
    counts = {(c.source, c.known): c for c in builders.UcfVggsound.OPEN_SETS["authors"]}
    assert counts["video", known].train == rows("ucf2vggsound")
    assert counts["audio", known].train == rows("vggsound2ucf")
    for one, other, all_clips in (("video", "audio", 4813), ("audio", "video", 2003)):
        found = counts[one, known]
        assert found.test_known == counts[other, known].train
        assert found.test_known + found.test_unknown == all_clips


# -- all or nothing --------------------------------------------------------------------------------


def test_nothing_is_written_before_all_files_are_there(published, tmp_path):
    folder = published("avel40k")
    for name in ("aaaaaaaaaaa", "ddddddddddd"):
        (folder / f"feature/audio/zip/{name}.zip").unlink()
    with pytest.raises(DataFolderError) as caught:
        converted("avel40k", folder, tmp_path / "new/set")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "new").exists()


def test_a_damaged_feature_leaves_nothing_and_the_call_can_be_repeated(published, tmp_path):
    folder, out = published("avel40k"), tmp_path / "new/set"
    path = folder / "feature/video/zip/ddddddddddd.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(FeatureFileError, match="ddddddddddd"):
        converted("avel40k", folder, out)
    assert list(out.parent.iterdir()) == []
    path.write_bytes(whole)
    converted("avel40k", folder, out)
    assert len(load_features(out).label) == 4


def test_all_wrong_features_are_named_at_once(published, tmp_path, monkeypatch):
    folder, out = published("ave"), tmp_path / "new/set"
    rows = np.stack([feature(f"{i:04d}", "audio") for i in range(trees.AVE_CLIPS)])
    rows[3, 1, 2], rows[30, 0, 0] = np.nan, np.inf
    trees.put_h5(folder / "audio_feature.h5", "avadataset", rows)
    with pytest.raises(DataFolderError) as caught:
        converted("ave", folder, out)
    assert caught.value.problems == tuple(
        f"{folder / 'audio_feature.h5'}: row {row}: expected finite float32 values, found {value}"
        for row, value in ((3, "nan"), (30, "inf"))  # as the parts have them
    )
    assert list(out.parent.iterdir()) == []
    trees.put_h5(folder / "audio_feature.h5", "avadataset", np.full_like(rows, np.nan))
    monkeypatch.setattr(prepare, "_MOST_ERRORS", 2)
    with pytest.raises(DataFolderError) as caught:
        converted("ave", folder, out)
    assert len(caught.value.problems) == 2


def test_what_a_killed_call_has_left_is_neither_read_nor_kept(published, tmp_path, monkeypatch):
    folder, out = published("msvd"), tmp_path / "new/set"
    with monkeypatch.context() as patch:  # as if killed: nothing is tidied up
        patch.setattr(prepare, "_write_columns", lambda *_: 1 / 0)
        patch.setattr(prepare.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(ZeroDivisionError):
            converted("msvd", folder, out)
    (left,) = out.parent.iterdir()
    assert left.name == ".set.incomplete" and (left / "modality/video.npy").exists()
    with pytest.raises(FeatureFileError):
        load_prepared(left)
    converted("msvd", folder, out)
    assert [p.name for p in out.parent.iterdir()] == ["set"]
    assert len(load_prepared(out).ids) == 2


def test_a_folder_made_differently_is_left_alone(published, tmp_path):
    folder, out = published("msvd"), tmp_path / "set"
    converted("msvd", folder, out)
    with pytest.raises(FileExistsError, match="dtype='float32', now 'float16'"):
        converted("msvd", folder, out, dtype="float16")
    assert load_prepared(out).recipe["dtype"] == "float32"
    (tmp_path / "other").mkdir()
    with pytest.raises(FileExistsError, match="was not made by this"):
        converted("msvd", folder, tmp_path / "other")


def test_a_link_where_a_folder_is_being_made_is_not_followed(published, tmp_path):
    folder, elsewhere = published("msvd"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".set.incomplete").symlink_to(elsewhere)
    with pytest.raises(FileExistsError, match=r"\.set\.incomplete"):
        converted("msvd", folder, tmp_path / "set")
    assert not list(elsewhere.iterdir()) and not (tmp_path / "set").exists()


@pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000, "{"])
def test_a_folder_whose_recipe_is_damaged_is_left_alone(text, published, tmp_path):
    folder, out = published("msvd"), tmp_path / "set"
    converted("msvd", folder, out)
    (out / "recipe.json").write_text(text)
    with pytest.raises(FileExistsError, match=r"recipe\.json is damaged .*choose another folder"):
        converted("msvd", folder, out)
    assert (out / "modality/video.npy").exists()


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    published, tmp_path, monkeypatch
):
    folder = published("msvd")
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=99))
    with pytest.raises(OSError, match=r"0\.0 GB are needed, 0\.0 GB are free"):
        converted("msvd", folder, tmp_path / "new/set")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(published, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        converted("msvd", published("msvd"), tmp_path / "new/set")
    assert list((tmp_path / "new").iterdir()) == []


# -- wrong requests --------------------------------------------------------------------------------


def test_parts_dtypes_and_splits_that_are_not_there_are_named(published, tmp_path):
    folder = published("valor")
    with pytest.raises(ValueError, match=r"part 'dev'.*official, zero_shot, random_500"):
        converted("valor", folder, tmp_path / "set", part="dev")
    with pytest.raises(ValueError, match=r"dtype 'int8'.*float32, float16"):
        converted("valor", folder, tmp_path / "set", dtype="int8")
    with pytest.raises(DataFolderError, match="no random_500 split"):
        converted("valor", folder, tmp_path / "set", part="random_500")


def test_the_command_ends_in_one_line(published, tmp_path, capsys):
    folder = published("ucf51")
    (folder / "UCF51Categories.txt").unlink()
    with pytest.raises(SystemExit) as caught:
        prepare.main(["ucf51", f"--manual_dir={folder}", f"--out={tmp_path / 'set'}"])
    assert caught.value.code == f"error: {folder}: UCF51Categories.txt: missing"
    with pytest.raises(SystemExit):
        prepare.main(["ucf52", "--manual_dir=a", "--out=b"])
    assert "invalid choice: 'ucf52'" in capsys.readouterr().err


# -- documentation ---------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).parents[2] / "docs/data_sets.md").read_text("utf-8")


def test_every_set_is_documented_with_its_files_and_parts():
    layouts, _, sizes = DOCUMENT.partition("## Parts and sizes")
    for name, builder in prepare.BUILDERS.items():
        (row,) = (line for line in layouts.splitlines() if line.startswith(f"| `{name}`"))
        wanted = re.findall(
            r"[\w/.-]+\.(?:csv|txt|h5|zip|npz|json)", builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        )
        assert wanted
        for file in wanted:
            assert f"`{file}`" in row, (name, file)
        assert f"`{name}`" in sizes
        for part in builder.PARTS:
            assert f"`{part}`" in sizes


def test_the_documented_open_sets_are_those_that_are_checked():
    table = DOCUMENT.partition("## Open-set protocols")[2].replace(",", "")
    rows = [tuple(map(int, re.findall(r"\| (\d+)(?= )", line))) for line in table.splitlines()]
    counts = {
        counts[2:]
        for builder in prepare.BUILDERS.values()
        for part in builder.OPEN_SETS.values()
        for counts in part
    }
    assert counts == {row for row in rows if row} and len(counts) == 8


def test_the_documented_sizes_are_those_of_the_published_numbers():
    megabytes = {"audio": 0.00512, "video": 1.00352, "text": 0.03072}
    expected = {"vggsound_avel40k": 42.4, "ave": 3.8, "ucf51": 6.9, "clotho_features": 0.2}
    for name, size in expected.items():
        builder = prepare.BUILDERS[name](data_dir="unused")
        train, test = next(iter(builder.PARTS.values()))
        splits = [split for split in f"{train}+{test}".split("+") if split]
        examples = sum(builder.expected()[split] for split in splits)
        assert round(examples * sum(megabytes[m] for m in builder.shapes()) / 1000, 1) == size
        assert f"{size} GB" in DOCUMENT


def test_the_documented_commands_are_understood():
    commands = [
        line.split() for line in DOCUMENT.splitlines() if "unirep_jax.data.prepare " in line
    ]
    assert commands
    for command in commands:
        prepare.arguments_parser().parse_args(command[3:])


# -- what lies beside the features -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda f: (f / "recipe.json").unlink(), "a folder made by python -m"),
        (lambda f: (f / "recipe.json").write_text("[1"), "a folder made by python -m"),
        (lambda f: (f / "recipe.json").write_text("[1]"), "a folder made by python -m"),
        (lambda f: (f / "examples.txt").unlink(), "a folder made by python -m"),
        (lambda f: (f / "examples.txt").write_text("a\n"), "examples.txt: expected 6 lines"),
        (lambda f: (f / "events.npz").write_bytes(b"PK"), "events.npz: expected an .npz file"),
        (
            lambda f: np.savez(f / "events.npz", **{"events/audio": np.ones((6, 10, 25))}),
            "events/audio: expected a boolean array",
        ),
        (
            lambda f: np.savez(f / "events.npz", **{"events/audio": np.ones((6, 10, 2), bool)}),
            r"shape \(6, any, 25\)",
        ),
        (
            lambda f: np.savez(f / "events.npz", **{"events/audio": np.ones((6, 10, 25), bool)}),
            "labelled/audio: expected this key",
        ),
        (lambda f: (f / "modality/video.npy").unlink(), "present/video|two modalities"),
    ],
)
def test_a_folder_that_is_damaged_is_refused(spoil, problem, published, tmp_path):
    converted("avvp", published("avvp"), tmp_path / "set", part="authors")
    spoil(tmp_path / "set")
    with pytest.raises(FeatureFileError, match=problem):
        load_prepared(tmp_path / "set")


def test_a_set_for_evaluation_with_a_training_row_is_refused(published, tmp_path):
    converted("msvd", published("msvd"), tmp_path / "set")
    np.save(tmp_path / "set/split.npy", np.array(["train", "test"]))
    with pytest.raises(FeatureFileError, match="split: expected test examples alone"):
        load_prepared(tmp_path / "set")
    recipe = json.loads((tmp_path / "set/recipe.json").read_text())
    (tmp_path / "set/recipe.json").write_text(json.dumps(recipe | {"train": "train"}))
    assert load_prepared(tmp_path / "set").features.train.sum() == 1
