"""From prepared builders to features on disk: pictures, depth, sound, words, and what is kept."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat, wavfile

from unirep_jax.data import raw
from unirep_jax.data.builders import CremaDAv, SunRgbdScenes, UpmcFood101
from unirep_jax.data.words import build_vocabulary, split_words, word_ids, word_vectors

FOOD = {
    "train": {
        "pie_1": "Apple pie",
        "pie_2": "apple PIE, warm",
        "ramen_1": "ramen with egg",
        "ramen_2": "",
    },
    "test": {"pie_3": "apple cake and pie and ramen", "ramen_3": "egg"},
}
COLORS = {"pie": (200, 40, 10), "ramen": (20, 90, 180)}


@pytest.fixture(scope="module")
def food(tmp_path_factory):
    """A prepared builder of six plain pictures, each half as high as it is wide."""
    root = tmp_path_factory.mktemp("food")
    for split, titles in FOOD.items():
        rows = ""
        for name, title in titles.items():
            label = name.partition("_")[0]
            folder = root / "set/images" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 20), COLORS[label]).save(folder / f"{name}.jpg", quality=95)
            rows += f'{name}.jpg,"{title}",{label}\n'
        (root / "set/texts").mkdir(exist_ok=True)
        (root / f"set/texts/{split}_titles.csv").write_text(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpmcFood101, "expected", lambda self: {"train": 4, "test": 2})
        yield raw.prepare(UpmcFood101, root / "set", root / "tfds")


def ids_of(folder):
    return (folder / "examples.txt").read_text().split()


# -- pictures and words ----------------------------------------------------------------------------


def test_pictures_and_titles_become_mapped_features(food, tmp_path):
    folder = tmp_path / "new" / "features"
    loaded = raw.raw_features(food, folder, image_size=8, num_words=4)
    assert loaded.name == "upmc_food101" and loaded.modalities == ("image", "text")
    assert loaded.features["image"].shape == (6, 1, 8, 8, 3)
    assert loaded.features["image"].dtype == np.float16
    assert isinstance(loaded.features["image"], np.memmap)
    np.testing.assert_array_equal(loaded.train, np.arange(6) < 4)
    ids = ids_of(folder)
    assert set(ids[:4]) == set(FOOD["train"]) and set(ids[4:]) == set(FOOD["test"])
    assert loaded.class_names == ("pie", "ramen")
    for i, name in enumerate(ids):
        label = name.partition("_")[0]
        assert loaded.class_names[loaded.label[i]] == label
        color = np.broadcast_to(np.array(COLORS[label]) / 255, (8, 8, 3))
        np.testing.assert_allclose(loaded.features["image"][i, 0], color, atol=0.03)


def test_words_are_numbered_by_the_training_titles_and_cut(food, tmp_path):
    loaded = raw.raw_features(food, tmp_path / "set", image_size=4, num_words=4)
    assert raw.load_vocabulary(tmp_path / "set") == ("<padding>", "<unknown>", "apple", "pie")
    expected = {
        "pie_1": [2, 3, 0, 0],
        "pie_2": [2, 3, 1, 0],
        "ramen_1": [1, 1, 1, 0],
        "ramen_2": [0, 0, 0, 0],
        "pie_3": [2, 1, 1, 3],
        "ramen_3": [1, 0, 0, 0],
    }
    for name, words, there in zip(
        ids_of(tmp_path / "set"), loaded.features["text"], loaded.present["text"], strict=True
    ):
        np.testing.assert_array_equal(words, expected[name])
        assert there == (name != "ramen_2")
    assert loaded.present["image"].all()


def test_the_folder_is_made_once_and_only_by_the_same_call(food, tmp_path, monkeypatch):
    settings = {"image_size": 4, "num_words": 4, "min_count": 1}
    first = raw.raw_features(food, tmp_path / "set", **settings)
    assert len(raw.load_vocabulary(tmp_path / "set")) == 2 + 6  # every word of the training part
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]  # nothing is left beside it

    def fail(*_):
        raise AssertionError("it was made again")

    monkeypatch.setattr(raw, "_convert_all", fail)
    again = raw.raw_features(food, tmp_path / "set", **settings)
    np.testing.assert_array_equal(again.features["image"], first.features["image"])
    with pytest.raises(FileExistsError, match="image_size=4, now 5; min_count=1, now 2"):
        raw.raw_features(food, tmp_path / "set", image_size=5, num_words=4)
    (tmp_path / "other").mkdir()
    with pytest.raises(FileExistsError, match="was not made by raw_features"):
        raw.raw_features(food, tmp_path / "other")


def test_a_call_that_fails_leaves_nothing_and_can_be_repeated(food, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(raw, "save_features", fail)
        with pytest.raises(OSError, match="no space left"):
            raw.raw_features(food, tmp_path / "set", image_size=4)
    with monkeypatch.context() as patch:
        patch.setattr(raw, "_square", fail)  # fails inside a thread
        with pytest.raises(OSError, match="no space left"):
            raw.raw_features(food, tmp_path / "set", image_size=4)
    assert not list(tmp_path.iterdir())
    assert len(raw.raw_features(food, tmp_path / "set", image_size=4).label) == 6


def test_the_parts_may_be_other_splits_of_the_builder(food, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "_READ_AHEAD", 1)  # pieces end where a part does, and elsewhere
    loaded = raw.raw_features(food, tmp_path / "set", train="test", test="train", image_size=4)
    assert set(ids_of(tmp_path / "set")[:2]) == set(FOOD["test"])
    np.testing.assert_array_equal(loaded.train, np.arange(6) < 2)
    vocabulary = raw.load_vocabulary(tmp_path / "set")
    assert vocabulary[2:] == ("and",)  # the only word that is there twice


# -- sound, video, depth ---------------------------------------------------------------------------


def test_sound_and_frames_become_features_with_groups(tmp_path, monkeypatch):
    clips = ["1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1002_TAI_SAD_LO"]
    monkeypatch.setattr(CremaDAv, "expected", lambda self: {"train": 2, "test": 1})
    time = np.arange(16000) / 16000
    for i, clip in enumerate(clips):
        wave = np.int16(8000 * np.sin(2 * np.pi * 1000 * (i + 1) * time))
        for folder in (tmp_path / "set/AudioWAV", tmp_path / "set/Image-01-FPS" / clip):
            folder.mkdir(parents=True, exist_ok=True)
        wavfile.write(tmp_path / f"set/AudioWAV/{clip}.wav", 16000, wave)
        for second in range(i + 1):
            grey = (60 * second,) * 3
            Image.new("RGB", (9, 9), grey).save(tmp_path / f"set/Image-01-FPS/{clip}/{second}.jpg")
    builder = raw.prepare(CremaDAv, tmp_path / "set", tmp_path / "tfds")
    loaded = raw.raw_features(builder, tmp_path / "features", image_size=4, num_frames=2)
    assert {m: x.shape[1:] for m, x in loaded.features.items()} == {
        "video": (2, 4, 4, 3),
        "audio": (188, 257),
    }
    for row, clip in enumerate(ids_of(tmp_path / "features")):
        i = clips.index(clip)
        assert loaded.group[row] == int(clip[:4])
        assert loaded.class_names[loaded.label[row]] == clip.split("_")[2]
        brightness = loaded.features["video"][row].astype(float).mean((1, 2, 3)) * 255
        np.testing.assert_allclose(brightness, [0, 60 * i], atol=2)  # first and last second
        loudest = loaded.features["audio"][row, 90].argmax() * 22050 / 512
        assert abs(loudest - 1000 * (i + 1)) < 25


def test_depth_becomes_metres_on_the_same_part_as_the_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(SunRgbdScenes, "expected", lambda self: {"train": 1, "test": 1})
    metres = np.zeros((8, 24))
    metres[:, 8:16] = np.linspace(1, 8, 8)[:, None]  # the middle; both sides are left out
    shown = np.uint8(np.round(metres * 30))
    stored = np.uint32(metres * 1000)
    stored = np.uint16((stored << 3 | stored >> 13) & 0xFFFF)
    cells = {}
    for part, frame in (("alltrain", "kv1/a"), ("alltest", "kv1/b")):
        root = tmp_path / "set/SUNRGBD" / frame
        for name, array in (("image", np.stack([shown] * 3, -1)), ("depth_bfx", stored)):
            (root / name).mkdir(parents=True)
            Image.fromarray(array).save(root / name / "1.png")
        (root / "scene.txt").write_text("office")
        cells[part] = np.array([[None]], object)
        cells[part][0, 0] = f"/n/fs/sun3d/data/SUNRGBD/{frame}"
    lists = tmp_path / "set/SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
    lists.parent.mkdir(parents=True)
    savemat(lists, cells)
    builder = raw.prepare(SunRgbdScenes, tmp_path / "set", tmp_path / "tfds")
    loaded = raw.raw_features(builder, tmp_path / "features", image_size=8)
    assert loaded.features["depth"].shape == (2, 1, 8, 8, 1)
    expected = np.broadcast_to(np.linspace(1, 8, 8)[:, None], (8, 8))
    np.testing.assert_allclose(loaded.features["depth"][0, 0, ..., 0], expected, rtol=1e-3)
    image = loaded.features["image"][1, 0, ..., 0].astype(float)
    np.testing.assert_allclose(image * 255 / 30, expected, atol=0.02)
    assert loaded.features["image"].shape == (2, 1, 8, 8, 3)


def test_spectrogram_is_its_formula_inside_and_at_the_start(rng):
    wave = rng.uniform(-0.5, 0.5, 3 * 22050 + 500)
    spectrum = raw.log_spectrogram(wave, 22050)
    assert spectrum.shape == (188, 257) and spectrum.dtype == np.float32
    n = np.arange(512)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 512)
    start = 353 * 100 - 256  # windows are centred
    for frame, samples in (
        (100, wave[start : start + 512]),
        (0, np.concatenate([wave[256:0:-1], wave[:256]])),  # reflected at the first sample
    ):
        for k in (0, 7, 256):
            value = np.sum(samples * window * np.exp(-2j * np.pi * k * n / 512))
            np.testing.assert_allclose(spectrum[frame, k], np.log(abs(value) + 1e-7), rtol=1e-4)


def test_short_sound_repeats_loud_sound_is_limited_and_silence_is_finite():
    second = np.sin(2 * np.pi * 441 * np.arange(22050) / 22050)
    whole = raw.log_spectrogram(np.tile(second, 3), 22050)
    np.testing.assert_allclose(raw.log_spectrogram(second, 22050), whole, atol=1e-5)
    loud = raw.log_spectrogram(5 * second, 22050)
    limited = raw.log_spectrogram(np.clip(5 * second, -1, 1), 22050)
    np.testing.assert_allclose(loud, limited, atol=1e-5)
    integers = raw.log_spectrogram(np.int16(np.round(second * 32767)), 22050)
    np.testing.assert_allclose(integers.max(1), whole.max(1), atol=1e-3)
    np.testing.assert_allclose(raw.log_spectrogram(np.zeros(1), 16000), np.log(1e-7), rtol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_a_tone_keeps_its_pitch_at_any_rate(rate):
    tone = 0.5 * np.sin(2 * np.pi * 1500 * np.arange(3 * rate) / rate)
    peak = raw.log_spectrogram(tone, rate)[20:-20].argmax(1)
    assert (np.abs(peak * 22050 / 512 - 1500) < 22).all()


# -- pieces ----------------------------------------------------------------------------------------


def test_a_square_is_the_middle_of_the_picture():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:40], pixels[:, 40:] = 0, 100, 255
    # But for the border, where averaging looks a little beyond.
    wide, high = raw._square(pixels, 5), raw._square(pixels.transpose(1, 0, 2), 5)
    np.testing.assert_allclose(wide[:, 1:-1], 100 / 255, atol=1e-6)
    np.testing.assert_allclose(high, wide.transpose(1, 0, 2), atol=1e-6)


@pytest.mark.parametrize(("frames", "chosen"), [(1, [0, 0, 0]), (2, [0, 0, 1]), (7, [0, 3, 6])])
def test_frames_are_evenly_spaced(frames, chosen):
    video = [np.full((6, 6, 3), 10 * i, np.uint8) for i in range(frames)]
    made = raw._video(video, 2, 3)
    assert made.shape == (3, 2, 2, 3)
    np.testing.assert_allclose(made[:, 0, 0, 0] * 25.5, chosen, atol=1e-5)


def test_captions_of_one_picture_are_one_text():
    assert raw._text([b"a red", "vögel".encode()]) == "a red vögel"
    assert raw._text(b"title") == "title"


def test_words_are_lower_case_without_punctuation():
    text = "It's  Crème-brûlée, No. 12 (good_food)!"
    assert split_words(text) == ["it's", "crème", "brûlée", "no", "12", "good", "food"]
    assert split_words("... !") == []


def test_a_vocabulary_counts_and_breaks_ties_by_the_alphabet():
    texts = [["b", "a", "c"], ["b", "a"], ["b", "d"]]
    assert build_vocabulary(texts) == ("<padding>", "<unknown>", "b", "a")
    assert build_vocabulary(texts, min_count=1)[2:] == ("b", "a", "c", "d")
    for order in itertools.permutations(texts):
        assert build_vocabulary(order, min_count=1) == build_vocabulary(texts, min_count=1)
    vocabulary = build_vocabulary(texts)
    ids = word_ids([["a", "x", "b", "a"], []], vocabulary, 3)
    np.testing.assert_array_equal(ids, [[3, 1, 2], [0, 0, 0]])
    assert ids.dtype == np.int32
    # A text that holds the name of a reserved id says an unknown word.
    np.testing.assert_array_equal(word_ids([["<padding>"]], vocabulary, 2), [[1, 0]])


def test_word_vectors_depend_on_the_word_alone():
    few, many = ("<padding>", "<unknown>", "cat"), ("<padding>", "<unknown>", "dog", "cat")
    first = word_vectors(np.array([[0, 1, 2]]), few, 16)
    second = word_vectors(np.array([[0, 1, 3]]), many, 16)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(np.linalg.norm(first, axis=-1), [[0, 1, 1]], atol=1e-6)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first[0, 2, :2], [0.3015867, -0.1558254], atol=1e-6)
