"""The builders on tiny trees in the layout of the published sets: read back, or refused by name."""

import csv
import io
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy.io import savemat, wavfile

from unirep_jax.data.builders import (
    CaltechBirds2011Captions,
    CremaDAv,
    DataFolderError,
    OxfordFlowers102Captions,
    SunRgbdScenes,
    UpmcFood101,
)
from unirep_jax.data.raw import prepare


def picture(path, seed=0, mode="RGB", kind="JPEG", size=(12, 9)):
    """A smooth picture of its own for every seed, that JPEG keeps nearly as it is."""
    row, column = np.mgrid[: size[1], : size[0]] / 12
    wave = [np.sin(3 * row + seed + i) * np.cos(2 * column - seed * i) for i in range(3)]
    pixels = np.uint8(np.round(127 + 120 * np.stack(wave, -1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path, kind)
    return pixels


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


# -- the trees -------------------------------------------------------------------------------------

FOOD = {"train": ["ramen_3", "ramen_10", "apple_pie_0", "apple_pie_1"], "test": ["apple_pie_7"]}
TITLES = {
    "ramen_3": "Tonkotsu Ramen",
    "ramen_10": 'The "best", they say',
    "apple_pie_0": "Pie, apple\nby Céline",
    "apple_pie_7": "pie",
}


def food(folder):
    for split, names in FOOD.items():
        for i, name in enumerate(names):
            label = name.rpartition("_")[0]
            picture(folder / "images" / split / label / f"{name}.jpg", i)
        path = folder / "texts" / f"{split}_titles.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            for name in names:
                if name in TITLES:  # apple_pie_1 has none
                    label = name.rpartition("_")[0]
                    csv.writer(file).writerow([f"{name}.jpg", TITLES[name], label])


FLOWERS = {"trnid": [2, 5], "valid": [1], "tstid": [4, 3]}
FLOWER_LABELS = [77, 1, 102, 77, 3]


def flowers(folder):
    for number, label in enumerate(FLOWER_LABELS, 1):
        picture(folder / f"jpg/image_{number:05d}.jpg", number)
        text = f"flower {number} is yellow\n\n  it has petals \n"
        write(folder / f"text_c10/class_{label:05d}/image_{number:05d}.txt", text)
    savemat(folder / "imagelabels.mat", {"labels": np.array([FLOWER_LABELS], np.uint8)})
    savemat(folder / "setid.mat", {k: np.array([v], np.uint16) for k, v in FLOWERS.items()})


BIRDS = {
    "1": ("001.Black_footed_Albatross/Black_Footed_Albatross_0046_18", "1", "0"),
    "2": ("001.Black_footed_Albatross/Black_Footed_Albatross_0009_34", "1", "1"),
    "3": ("002.Laysan_Albatross/Laysan_Albatross_0002_1027", "2", "1"),
}


def birds(folder):
    for i, (name, _, _) in BIRDS.items():
        picture(folder / f"images/{name}.jpg", int(i))
        write(folder / f"text_c10/{name}.txt", f"bird {i}\nflies\n")
    lines = lambda values: "".join(f"{i} {value}\n" for i, value in values)
    write(folder / "images.txt", lines((i, f"{b[0]}.jpg") for i, b in BIRDS.items()))
    write(folder / "image_class_labels.txt", lines((i, b[1]) for i, b in BIRDS.items()))
    write(folder / "train_test_split.txt", lines((i, b[2]) for i, b in BIRDS.items()))
    classes = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    write(folder / "classes.txt", lines(enumerate(classes, 1)))


CLIPS = ["1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1002_TAI_SAD_LO", "1091_WSI_NEU_XX"]


def emotions(folder):
    for i, clip in enumerate(CLIPS):
        wave = np.arange(-50, 50 + 10 * i, dtype=np.int16)
        (folder / "AudioWAV").mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / f"AudioWAV/{clip}.wav", 16000, wave)
        for second in range(1 + i % 2):
            picture(folder / f"Image-01-FPS/{clip}/frame_{second:04d}.jpg", second)


SCENES = {
    "kv1/NYUdata/NYU0001": ("bedroom", "alltrain"),
    "xtion/sun3ddata/hotel/room_1/0000103-1": ("kitchen", "alltrain"),
    "xtion/sun3ddata/hotel/room_1/0000290-2": ("kitchen", "alltrain"),
    "realsense/lg/0021": ("idk", "alltrain"),  # one of the rare scenes
    "kv2/kinect2data/000065-resize": ("rest_space", "alltest"),
}


def scenes(folder):
    for i, (frame, (scene, _)) in enumerate(SCENES.items()):
        root = folder / "SUNRGBD" / frame
        picture(root / "image/0001.jpg", i)
        write(root / "scene.txt", scene)
        (root / "depth_bfx").mkdir()
        Image.fromarray(stored_depth(i)).save(root / "depth_bfx/0001.png")
    cells = {}
    for key in ("alltrain", "alltest"):
        paths = [f"/n/fs/sun3d/data/SUNRGBD/{f}" for f, (_, part) in SCENES.items() if part == key]
        cells[key] = np.empty((1, len(paths)), object)
        cells[key][0] = paths
    path = folder / "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
    path.parent.mkdir(parents=True)
    savemat(path, cells)


def millimetres(seed):
    return (np.arange(108, dtype=np.uint16).reshape(9, 12) * 70 + seed).astype(np.uint16)


def stored_depth(seed):
    """As the toolbox reads it: bitor(bitshift(x, -3), bitshift(x, 13)) gives millimetres."""
    depth = millimetres(seed).astype(np.uint32)
    return ((depth << 3 | depth >> 13) & 0xFFFF).astype(np.uint16)


SETS = {
    "food": (food, UpmcFood101, {"train": 4, "test": 1}),
    "flowers": (flowers, OxfordFlowers102Captions, {"train": 2, "validation": 1, "test": 2}),
    "birds": (birds, CaltechBirds2011Captions, {"train": 2, "test": 1}),
    "emotions": (emotions, CremaDAv, {"train": 3, "test": 1}),
    "scenes": (scenes, SunRgbdScenes, {"train": 3, "test": 1}),
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes a tree of a set, whose published sizes become those of the tree."""

    def make(name):
        write_tree, builder, sizes = SETS[name]
        monkeypatch.setattr(builder, "expected", lambda self: sizes)
        (tmp_path / name).mkdir()
        write_tree(tmp_path / name)
        return tmp_path / name

    return make


def read(name, folder, config=None):
    """split -> id -> example, after TFDS has written and read everything but 16-bit images."""
    builder = prepare(SETS[name][1], folder, folder.parent / "tfds", config)
    skip = {"depth": tfds.decode.SkipDecoding()} if name == "scenes" else None
    return builder, {
        split: {e["id"].decode(): e for e in builder.as_data_source(split, decoders=skip)}
        for split in builder.info.splits
    }


def refusal(name, folder, config=None) -> DataFolderError:
    with pytest.raises(DataFolderError) as caught:
        prepare(SETS[name][1], folder, folder.parent / "tfds", config)
    return caught.value


# -- right trees -----------------------------------------------------------------------------------


def same_picture(found, path):
    with Image.open(path) as image:
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


def test_food_has_pictures_titles_and_classes(tree):
    folder = tree("food")
    builder, splits = read("food", folder)
    assert builder.name == "upmc_food101"
    assert builder.info.features["label"].names == ["apple_pie", "ramen"]
    for split, names in FOOD.items():
        assert set(splits[split]) == set(names)
        for key in names:
            label = key.rpartition("_")[0]
            example = splits[split][key]
            assert example["text"].decode() == TITLES.get(key, "")
            assert example["label"] == ["apple_pie", "ramen"].index(label)
            same_picture(example["image"], folder / f"images/{split}/{label}/{key}.jpg")


def test_food_texts_may_be_files_or_have_a_header(tree):
    folder = tree("food")
    titles = folder / "texts/train_titles.csv"
    titles.write_text("\ufefffile,title,class\n" + titles.read_text("utf-8"), "utf-8")
    _, splits = read("food", folder, "partial")
    assert splits["train"]["ramen_3"]["text"] == b"Tonkotsu Ramen"
    for path in (folder / "texts").iterdir():
        path.unlink()
    (folder / "texts").rmdir()
    write(folder / "texts_txt/ramen/ramen_3.txt", " from a file \n")
    _, splits = read("food", folder)
    assert splits["train"]["ramen_3"]["text"] == b"from a file"
    assert splits["train"]["ramen_10"]["text"] == b""


def test_flowers_have_captions_and_the_three_official_parts(tree):
    folder = tree("flowers")
    builder, splits = read("flowers", folder)
    for split, key in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        assert set(splits[split]) == {f"image_{n:05d}" for n in FLOWERS[key]}
        for n in FLOWERS[key]:
            example = splits[split][f"image_{n:05d}"]
            assert example["label"] == FLOWER_LABELS[n - 1] - 1
            captions = [f"flower {n} is yellow".encode(), b"it has petals"]
            assert list(example["captions"]) == captions
            same_picture(example["image"], folder / f"jpg/image_{n:05d}.jpg")
    assert builder.info.features["label"].int2str(101) == "class_00102"


def test_birds_have_captions_and_the_two_official_parts(tree):
    folder = tree("birds")
    builder, splits = read("birds", folder)
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    assert builder.info.features["label"].names == names
    for i, (name, label, train) in BIRDS.items():
        example = splits["train" if train == "1" else "test"][name.rpartition("/")[2]]
        assert example["label"] == int(label) - 1
        assert list(example["captions"]) == [f"bird {i}".encode(), b"flies"]
        same_picture(example["image"], folder / f"images/{name}.jpg")


def test_emotions_have_sound_and_frames_of_people_of_one_part(tree):
    folder = tree("emotions")
    builder, splits = read("emotions", folder)
    assert set(splits["test"]) == {"1002_TAI_SAD_LO"}  # actor 1002 is one of the test people
    for i, clip in enumerate(CLIPS):
        example = splits["test" if clip.startswith("1002") else "train"][clip]
        np.testing.assert_array_equal(example["audio"], np.arange(-50, 50 + 10 * i))
        assert example["audio"].dtype == np.int16
        assert len(example["frames"]) == 1 + i % 2
        same_picture(example["frames"][-1], folder / f"Image-01-FPS/{clip}/frame_{i % 2:04d}.jpg")
        assert builder.info.features["label"].int2str(int(example["label"])) == clip.split("_")[2]
        assert example["group"] == int(clip[:4])


def test_emotions_can_follow_the_published_lists(tree):
    folder = tree("emotions")
    row = lambda clip: f"{clip},{clip.split('_')[2]}\n"
    write(folder / "train.csv", row(CLIPS[0]) + row(CLIPS[2]) + row(CLIPS[3]))
    write(folder / "test.csv", row(CLIPS[1]))
    _, splits = read("emotions", folder, "ogm_ge")
    assert set(splits["test"]) == {CLIPS[1]} and len(splits["train"]) == 3


def test_scenes_have_depth_in_millimetres_and_groups_by_place(tree):
    folder = tree("scenes")
    builder, splits = read("scenes", folder)
    assert "realsense/lg/0021" not in splits["train"]
    groups = {}
    for i, (frame, (scene, part)) in enumerate(SCENES.items()):
        if scene != "idk":
            example = splits[part.removeprefix("all")][frame]
            with Image.open(io.BytesIO(example["depth"])) as depth:
                np.testing.assert_array_equal(np.asarray(depth), millimetres(i))
            same_picture(example["image"], folder / "SUNRGBD" / frame / "image/0001.jpg")
            assert builder.info.features["label"].int2str(int(example["label"])) == scene
            groups[frame] = int(example["group"])
    frames = [frame for frame in groups if "sun3ddata" in frame]
    assert len(frames) == 2 and groups[frames[0]] == groups[frames[1]]
    assert len(set(groups.values())) == 3


def test_pictures_that_are_no_jpeg_in_colour_come_out_in_colour(tree):
    folder = tree("food")
    grey = folder / "images/train/ramen/ramen_3.jpg"
    picture(grey, 3, mode="L")
    palette = folder / "images/train/ramen/ramen_10.jpg"
    picture(palette, 4, mode="P", kind="PNG")
    _, splits = read("food", folder)
    for path in (grey, palette):
        same_picture(splits["train"][path.stem]["image"], path)


# -- what is missing -------------------------------------------------------------------------------

LOST = {
    "food": ["images/train/ramen/ramen_3.jpg", "images/train/apple_pie/apple_pie_0.jpg"],
    "flowers": ["jpg/image_00002.jpg", "text_c10/class_00102/image_00003.txt"],
    "birds": [f"images/{BIRDS['1'][0]}.jpg", f"text_c10/{BIRDS['3'][0]}.txt"],
    "emotions": ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1091_WSI_NEU_XX.wav"],
    "scenes": [
        "SUNRGBD/kv1/NYUdata/NYU0001/image/0001.jpg",
        "SUNRGBD/xtion/sun3ddata/hotel/room_1/0000290-2/depth_bfx/0001.png",
    ],
}


@pytest.mark.parametrize("name", SETS)
def test_all_missing_files_are_named_at_once(name, tree):
    folder = tree(name)
    for lost in LOST[name]:
        (folder / lost).unlink()
    error = refusal(name, folder)
    assert len(error.problems) == 2
    for lost in LOST[name]:
        expected = lost if name != "scenes" else lost.rpartition("/")[0]
        assert any(p.startswith(expected) and p.endswith("missing") for p in error.problems)
        assert expected in str(error)


@pytest.mark.parametrize("name", ["flowers", "birds", "scenes"])
def test_a_partial_copy_leaves_out_what_is_missing_and_says_so(name, tree):
    folder = tree(name)
    lost = LOST[name][1]
    (folder / lost).unlink()
    with pytest.warns(UserWarning) as caught:
        _, splits = read(name, folder, "partial")
    messages = [str(w.message) for w in caught]
    assert any("left out the examples of 1 missing files" in m for m in messages)
    assert any("examples, found" in m for m in messages)
    count = sum(len(part) for part in splits.values())
    assert count == sum(SETS[name][2].values()) - 1


TOP = {
    "food": ["images/test", "texts/train_titles.csv"],
    "flowers": ["jpg", "setid.mat"],
    "birds": ["classes.txt", "text_c10"],
    "scenes": ["SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"],
}


@pytest.mark.parametrize("name", TOP)
def test_missing_folders_and_tables_are_named_at_once(name, tree):
    folder = tree(name)
    for i, top in enumerate(TOP[name]):
        (folder / top).rename(folder.parent / f"moved{i}")
    assert refusal(name, folder).problems == tuple(f"{top}: missing" for top in TOP[name])


def test_another_number_than_the_published_one_is_refused(tree, monkeypatch):
    folder = tree("flowers")
    sizes = {"train": 1020, "validation": 1, "test": 3}
    monkeypatch.setattr(OxfordFlowers102Captions, "expected", lambda self: sizes)
    error = refusal("flowers", folder)
    assert error.problems == (
        "expected 1020 train examples, found 2",
        "expected 3 test examples, found 2",
    )
    assert "'partial'" in str(error)


def test_the_published_numbers_are_those_of_the_sets():
    number = lambda cls, tmp="unused", **kw: cls(data_dir=tmp, **kw).expected()
    assert sum(number(OxfordFlowers102Captions).values()) == 8189
    assert sum(number(CaltechBirds2011Captions).values()) == 11788
    assert sum(number(CremaDAv).values()) == sum(number(CremaDAv, config="ogm_ge").values()) == 7442


# -- what is wrong ---------------------------------------------------------------------------------


def test_food_rows_that_do_not_fit_their_pictures_are_refused(tree):
    folder = tree("food")
    titles = folder / "texts/train_titles.csv"
    right = titles.read_text("utf-8")
    wrong = right.replace("Tonkotsu Ramen,ramen", "Tonkotsu Ramen,apple_pie")
    titles.write_text(wrong + "ramen_99.jpg,Not there,ramen\n", "utf-8")
    assert refusal("food", folder).problems == (
        "ramen_3.jpg: class 'apple_pie' here, 'ramen' as image",
        "images/train/ramen/ramen_99.jpg: missing",
    )
    titles.write_text(right + "ramen_3.jpg,ramen\n", "utf-8")
    assert refusal("food", folder).problems == (
        "row ['ramen_3.jpg', 'ramen']: expected file, title, class",
    )
    titles.write_text(right + "ramen_3.jpg,Again,ramen\n", "utf-8")
    assert refusal("food", folder).problems == ("ramen_3.jpg: listed 2 times",)
    titles.write_text(right, "utf-8")
    picture(folder / "images/test/ramen/ramen_3.jpg")
    assert refusal("food", folder).problems == ("ramen_3: listed 2 times",)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("setid.mat", {"trnid": [1, 1], "valid": [2], "tstid": [3]}, "image 1: listed 2 times"),
        ("setid.mat", {"trnid": [6], "valid": [2], "tstid": [0]}, "image 6: no label for it"),
        ("setid.mat", {"trnid": [6], "valid": [2]}, "variable 'tstid', found KeyError"),
        ("imagelabels.mat", {"labels": [1, 2, 103, 4, 5]}, "class 103: not within 1 … 102"),
    ],
)
def test_flower_tables_that_contradict_themselves_are_refused(file, content, problem, tree):
    folder = tree("flowers")
    savemat(folder / file, {k: np.array([v], np.uint16) for k, v in content.items()})
    assert problem in str(refusal("flowers", folder))


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("image_class_labels.txt", "3 2", "3 9", "image 3: class 9 is not in classes.txt"),
        ("image_class_labels.txt", "3 2\n", "", "image 3: not in all of"),
        ("train_test_split.txt", "1 0", "1 2", "image 1: '2' in train_test_split.txt is neither"),
        ("train_test_split.txt", "1 0", "one 0", "line 'one 0': expected 'number value'"),
        ("images.txt", "2 001", "1 001", "1: listed 2 times"),
        ("images.txt", "0009_34", "0046_18", "Black_Footed_Albatross_0046_18: listed 2 times"),
    ],
)
def test_bird_tables_that_contradict_themselves_are_refused(file, old, new, problem, tree):
    folder = tree("birds")
    text = (folder / file).read_text("utf-8")
    assert old in text
    write(folder / file, text.replace(old, new))
    assert problem in str(refusal("birds", folder))


def test_clips_that_are_not_named_like_clips_are_refused(tree):
    folder = tree("emotions")
    (folder / "AudioWAV/1001_DFA_XXX_XX.wav").write_bytes(b"")
    assert refusal("emotions", folder).problems == (
        "1001_DFA_XXX_XX: not named ACTOR_SENTENCE_EMOTION_LEVEL",
    )


def test_lists_of_clips_that_contradict_their_names_are_refused(tree):
    folder = tree("emotions")
    write(folder / "train.csv", f"{CLIPS[0]},ANG\n{CLIPS[1]},SAD\n{CLIPS[2]}\n")
    write(folder / "test.csv", f"{CLIPS[0]},ANG\n")
    error = refusal("emotions", folder, "ogm_ge")
    assert len(error.problems) == 2 and CLIPS[1] in str(error) and CLIPS[2] in str(error)
    write(folder / "train.csv", f"{CLIPS[0]},ANG\n")
    assert refusal("emotions", folder, "ogm_ge").problems == (f"{CLIPS[0]}: listed 2 times",)


def test_sound_of_another_kind_is_refused(tree):
    folder = tree("emotions")
    path = folder / "AudioWAV/1001_DFA_ANG_XX.wav"
    for rate, samples, found in (
        (8000, np.zeros(9, np.int16), "16000 Hz, mono, found 8000 Hz, 1 channels"),
        (16000, np.zeros((9, 2), np.int16), "16000 Hz, mono, found 16000 Hz, 2 channels"),
        (16000, np.zeros(9, np.float32), "a whole WAV file, found ValueError: format 3 of 32 bits"),
    ):
        wavfile.write(path, rate, samples)
        assert str(refusal("emotions", folder)).startswith(f"{path}: expected {found}")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    problem = refusal("emotions", folder).problems
    assert problem == ("AudioWAV/1001_DFA_ANG_XX.wav: only a Git LFS pointer, run `git lfs pull`",)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("food", "images/train/ramen/ramen_3.jpg"),
        ("flowers", "jpg/image_00002.jpg"),
        ("emotions", "Image-01-FPS/1001_DFA_ANG_XX/frame_0000.jpg"),
        ("emotions", "AudioWAV/1001_DFA_ANG_XX.wav"),
        ("scenes", "SUNRGBD/kv1/NYUdata/NYU0001/depth_bfx/0001.png"),
        ("flowers", "setid.mat"),
        ("scenes", "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"),
    ],
)
def test_a_file_cut_short_is_named(name, file, tree):
    folder = tree(name)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[:40])
    assert str(refusal(name, folder)).startswith(f"{folder / file}: expected ")


def test_captions_without_text_or_in_another_encoding_are_named(tree):
    folder = tree("birds")
    path = folder / f"text_c10/{BIRDS['2'][0]}.txt"
    path.write_text("\n \n")
    assert str(refusal("birds", folder)).startswith(f"{path}: expected captions, one a line")
    path.write_bytes(b"caf\xe9\n")
    assert str(refusal("birds", folder)).startswith(f"{path}: expected UTF-8 text")


def test_depth_with_eight_bits_is_refused(tree):
    folder = tree("scenes")
    path = folder / "SUNRGBD/kv1/NYUdata/NYU0001/depth_bfx/0001.png"
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(path)
    assert "one channel of 16 bits, found uint8 (9, 12)" in str(refusal("scenes", folder))


def test_a_long_list_of_problems_is_cut_in_the_message_alone(tmp_path):
    error = DataFolderError(tmp_path, [f"file {i}: missing" for i in range(150)])
    assert len(error.problems) == 150
    assert "file 99: missing" in str(error) and "file 100: missing" not in str(error)
    assert "... and 50 more" in str(error)


# -- Flash videos ----------------------------------------------------------------------------------


def videos(folder):
    """Flash files in place of extracted frames."""
    (folder / "Image-01-FPS").rename(folder.parent / "frames")
    (folder / "VideoFlash").mkdir()
    for clip in CLIPS:
        (folder / f"VideoFlash/{clip}.flv").write_bytes(b"FLV")


def test_flash_videos_are_decoded_at_one_frame_a_second(tree, monkeypatch):
    """With a stand-in for the decoder: 2.5 s at 10 frames a second, each of its own grey."""
    folder = tree("emotions")
    videos(folder)
    frame = lambda i: types.SimpleNamespace(
        time=i / 10, to_image=lambda: Image.new("RGB", (8, 8), (9 * i,) * 3)
    )

    class Container(io.BytesIO):
        def decode(self, video):
            return (frame(i) for i in range(25))

    monkeypatch.setitem(
        sys.modules, "av", types.SimpleNamespace(open=lambda path, format: Container())
    )
    _, splits = read("emotions", folder)
    frames = splits["train"]["1001_DFA_ANG_XX"]["frames"]
    assert [round(f.mean() / 9) for f in frames] == [0, 10, 20]


def test_without_a_decoder_or_videos_the_ways_out_are_named(tree, monkeypatch):
    folder = tree("emotions")
    videos(folder)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install av, or extract frames .* Image-01-FPS"):
        prepare(CremaDAv, folder, folder.parent / "tfds")
    (folder / "VideoFlash").rename(folder.parent / "videos")
    assert "neither VideoFlash nor Image-01-FPS" in str(refusal("emotions", folder))
