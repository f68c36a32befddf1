"""MSR-VTT, AudioCaps, VATEX and Clotho: published annotations, features of the user's own."""

import json

import captioned_trees as trees
import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, load_features, prepare
from unirep_jax.data.builders import DataFolderError
from unirep_jax.data.prepare import BUILDERS, convert
from unirep_jax.data.prepared import load_prepared


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Converts the tree of a set; returns everything that is known of the result."""

    def do(name, *, change=lambda folder: None, tree=None, **settings):
        folder = tmp_path / name
        folder.mkdir()
        trees.TREES[name](folder, **(tree or {}))
        change(folder)
        builder = BUILDERS[name](data_dir=str(tmp_path / "tfds"))
        monkeypatch.setattr(builder, "expected", dict)  # the published numbers
        convert(builder, folder, tmp_path / "out", **settings)
        return load_prepared(tmp_path / "out")

    return do


def keys(found, train):
    rows = found.features.train == train
    return [key for key, own in zip(found.ids, rows, strict=True) if own]


@pytest.mark.parametrize(
    ("name", "part", "train", "test"),
    [
        ("msrvtt", "1k_a", {"video1": 3, "video0": 3}, {"video9770": 1, "video9771": 1}),
        ("msrvtt", "7k", {"video0": 3}, {"video9770": 1, "video9771": 1}),
        (
            "msrvtt",
            "official",
            {"video0": 3, "video1": 3, "video6513": 3},
            {"video9770": 3, "video9771": 3},
        ),
        ("msrvtt", "zero_shot", {}, {"video9770": 1, "video9771": 1}),
        ("audiocaps", "official", {"r1nicOVtvkQ": 1, "-3eJ9RynJzP": 1}, {"7fmOlUlwoNg": 5}),
        ("audiocaps", "zero_shot", {}, {"7fmOlUlwoNg": 5}),
        (
            "vatex",
            "official",
            {"Ptf_2VRj-V0_000122_000132": 10, "cbwZh-pZ6xA_000030_000040": 10},
            {"G9zN5TTuGO4_000179_000189": 10},
        ),
        ("vatex", "zero_shot_gram", {}, {"G9zN5TTuGO4_000179_000189": 10}),
        ("clotho", "official", {"development at 5.30, wet": 5}, {"evaluation at 5.30, wet": 5}),
        (
            "clotho",
            "all",
            {"development at 5.30, wet": 5, "validation at 5.30, wet": 5},
            {"evaluation at 5.30, wet": 5},
        ),
    ],
)
def test_every_caption_is_a_row_of_its_clip_in_the_part_that_is_published(
    read, name, part, train, test
):
    found = read(name, part=part)
    data = found.features
    for own, expected in ((True, train), (False, test)):
        wanted = [
            clip if count == 1 else f"{clip}#{place}"
            for clip, count in expected.items()
            for place in range(1, count + 1)
        ]
        assert keys(found, own) == wanted
    clips = [key.partition("#")[0] for key in found.ids]
    assert data.captions == "text" == found.recipe["captions"]
    for clip in {*clips}:
        (group,) = {int(g) for g, other in zip(data.group, clips, strict=True) if other == clip}
        rows = np.flatnonzero(data.group == group)
        assert [clips[row] for row in rows] == [clip] * len(rows)
        for row in rows:
            for m, shape in (("video", 12), ("audio", (4, 3))):
                expected = trees.vector(clip + m, shape).astype(np.float32)
                np.testing.assert_array_equal(data.features[m][row], expected)
    assert (data.label == -1).all() and data.features["text"].shape == (len(clips), 5)


def test_a_caption_has_its_own_vector(read):
    found = read("msrvtt")
    row = found.ids.index("video1#2")
    expected = trees.vector("video1 seen, 1", 5).astype(np.float16)
    np.testing.assert_array_equal(found.features.features["text"][row], expected)


def test_a_part_asks_for_the_features_of_its_own_clips_alone(read):
    def without_training(folder):
        for clip in ("video0", "video1", "video6513"):
            (folder / f"feature/video/{clip}.npy").unlink()
            (folder / f"feature/audio/{clip}.npy").unlink()

    found = read("msrvtt", part="zero_shot", change=without_training)
    assert found.ids == ("video9770", "video9771")


def test_clips_without_sound_are_absent_there_and_kept(read):
    found = read("msrvtt", tree={"absent": ("video1",)})
    clips = np.array([key.partition("#")[0] for key in found.ids])
    np.testing.assert_array_equal(found.features.present["audio"], clips != "video1")
    assert found.features.present["video"].all()


def test_sequences_of_other_lengths_take_evenly_spaced_steps_where_that_is_asked(read, tmp_path):
    long = trees.vector("long", (9, 3)).astype(np.float32)
    change = lambda folder: np.save(folder / "feature/audio/video0.npy", long)
    found = read("msrvtt", change=change, steps=5, modalities=("audio",)).features
    assert found.modalities == ("audio", "text") and found.features["audio"].shape[1:] == (5, 3)
    row = load_prepared(tmp_path / "out").ids.index("video0#1")
    np.testing.assert_array_equal(found.features["audio"][row], long[::2])


def test_what_is_converted_trains_and_knows_its_captions(read, tmp_path):
    read("clotho")
    loaded = load_features(tmp_path / "out")
    assert loaded.captions == "text" and loaded.items(loaded.train) == 1


def damage(file, content):
    return lambda folder: (folder / file).write_text(content)


def resave(file, array):
    return lambda folder: np.save(folder / file, array)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("msrvtt", damage("MSRVTT_data.json", "[]"), "MSRVTT_data.json: expected a list"),
        (
            "msrvtt",
            damage("MSRVTT_train.9k.csv", "video_id\nvideo77\n"),
            "MSRVTT_train.9k.csv: video77: no caption in MSRVTT_data.json",
        ),
        (
            "msrvtt",
            damage("MSRVTT_train.9k.csv", "video_id\nvideo0\nvideo0\n"),
            "MSRVTT_train.9k.csv: video0: listed 2 times",
        ),
        ("audiocaps", damage("train.csv", "id,caption\n1,a\n"), "column 'youtube_id'"),
        (
            "audiocaps",
            damage("train.csv", "youtube_id,caption\n../up,a\n"),
            "id '../up': not the name of a file",
        ),
        (
            "vatex",
            damage("vatex_training_v1.0.json", json.dumps([{"videoID": "a", "enCap": [7]}])),
            "caption 0: expected a clip and a text, found 'a', 7",
        ),
        ("clotho", damage("clotho_captions_development.csv", "file_name\na.wav\n"), "caption_1"),
        (
            "msrvtt",
            lambda folder: (folder / "feature/audio/video0.npy").unlink(),
            "feature/audio/video0.npy: missing",
        ),
        (
            "msrvtt",
            resave("feature/video/video0.npy", np.zeros(11, np.float32)),
            "video0.npy: expected floats (12)",
        ),
        (
            "msrvtt",
            resave("feature/audio/video0.npy", np.zeros((5, 3), np.float32)),
            "video0.npy: expected floats (4, 3), found float32 (5, 3)",
        ),
        (
            "msrvtt",
            resave("feature/video/video1.npy", np.zeros((2, 2, 3), np.float32)),
            "video1.npy: expected floats (dim) or (time, dim), found (2, 2, 3)",
        ),
        (
            "clotho",
            lambda folder: np.savez(
                folder / "text_vectors.npz", text=np.array(["a"]), vector=np.zeros((1, 5))
            ),
            "no vectors of 'development: 0, and so on'",
        ),
        (
            "clotho",
            lambda folder: np.savez(
                folder / "text_vectors.npz", text=np.array(["a"]), vector=np.zeros(1)
            ),
            "text_vectors.npz: vector: expected floats (1, dim) or (1, token, dim)",
        ),
        (
            "clotho",
            lambda folder: (folder / "feature/text").mkdir(),
            "text: is the modality of captions",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_file(read, tmp_path, name, change, message):
    with pytest.raises((DataFolderError, FeatureFileError)) as caught:
        read(name, change=change)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_numbers_of_captions_are_those_published(tmp_path):
    """Without `partial`, a copy with fewer is refused."""
    folder = tmp_path / "clotho"
    folder.mkdir()
    trees.clotho(folder)
    builder = BUILDERS["clotho"](data_dir=str(tmp_path / "tfds"))
    with pytest.raises(DataFolderError, match="expected 19195 development examples, found 5"):
        convert(builder, folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "split", "published", "file"),
    [
        ("audiocaps", "train", "captions/audiocaps_train.csv", "train.csv"),
        ("audiocaps", "validation", "captions/audiocaps_val.csv", "val.csv"),
        ("audiocaps", "test", "captions/audiocaps_test.csv", "test.csv"),
        ("clotho", "development", "captions/clotho_train.csv", ""),
        ("clotho", "validation", "captions/clotho_val.csv", ""),
        ("clotho", "evaluation", "captions/clotho_test.csv", ""),
        ("msrvtt", "gram_train", "captions/msrvtt_train.json", ""),
        ("msrvtt", "gram_test", "captions/msrvtt_test_video_and_audio.json", ""),
        ("vatex", "gram_test", "captions/vatex_test.json", ""),
    ],
)
def test_the_published_tables_have_the_published_number_of_captions(
    split_file, tmp_path, name, split, published, file
):
    split_file(published)
    known = BUILDERS[name].SPLITS[split]
    assert not file or known.files == (file,)
    clips = known.clips(tmp_path / published.rpartition("/")[2])
    assert sum(map(len, clips.values())) == known.captions


def test_the_command_converts_own_features_and_refuses_their_flags_for_published_ones(
    tmp_path, capsys
):
    folder = tmp_path / "clotho"
    folder.mkdir()
    trees.clotho(folder)
    out = ["--manual_dir", str(folder), "--out", str(tmp_path / "out")]
    with pytest.warns(UserWarning, match="expected 5225 evaluation examples, found 5"):
        prepare.main(["clotho", *out, "--config=partial", "--modalities=audio", "--steps=2"])
    assert "clotho/partial" in capsys.readouterr().out
    loaded = load_features(tmp_path / "out")
    assert {m: x.shape[1:] for m, x in loaded.features.items()} == {"audio": (2, 3), "text": (5,)}
    with pytest.raises(SystemExit, match="ave: steps and modalities are those of the published"):
        prepare.main(["ave", *out[:2], "--out", str(tmp_path / "other"), "--steps=2"])
