"""The small sets: files of their form everywhere, the true files where they are at hand."""

import re

import numpy as np
import pytest

from unirep_jax.data import FeatureFileError, digits4, emoji, handwritten6, mosi, wikipedia

MODULES = {
    "handwritten6": handwritten6,
    "digits4": digits4,
    "emoji": emoji,
    "wikipedia": wikipedia,
    "mosi": mosi,
}
DIGITS = {"audio": 12, "image": 10, "pen": 20, "sign": 8}  # how many of each, of two digits


def content(name: str) -> dict[str, np.ndarray]:
    """Small arrays of the true form, with classes in turn and odd rows in the test part."""
    rng = np.random.default_rng(0)
    pixels = lambda *shape: rng.integers(0, 256, shape, np.uint8)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    label, train = np.arange(8, dtype=np.int32) // 2 % 2, np.arange(8) % 2 == 0
    plain = {"label": label, "train": train}
    if name == "handwritten6":
        views = {v: normal(8, d) for v, d in (("fou", 76), ("zer", 47), ("kar", 64), ("mor", 6))}
        return plain | views | {"pix": pixels(8, 240), "fac": rng.integers(0, 2000, (8, 216))}
    if name == "mosi":
        views = {m: normal(8, d) for m, d in (("text", 100), ("audio", 73), ("visual", 100))}
        return plain | views | {"video": np.array([3, 5, 3, 5, 4, 6, 4, 6], np.int32)}
    if name == "wikipedia":
        probability = rng.dirichlet(np.ones(10), 8).astype(np.float32)
        probability[0, 0] = 0
        image = rng.dirichlet(np.ones(128), 8).astype(np.float32)
        names = np.array(["art", "war"])
        return plain | {"image": image, "text": probability, "class_name": names}
    if name == "emoji":
        # Of the training part (even rows), "happy" and "cat" occur twice.
        keywords = ["happy Cat", "dog", "cat, happy!", "cat bird", "sad", "", "it's", "happy happy"]
        return plain | {
            "noto": pixels(8, 32, 32, 3),
            "emojitwo": pixels(8, 32, 32, 3),
            "has_emojitwo": np.arange(8) < 5,
            "keywords": np.array(keywords),
            "class_name": np.array(["face", "animal"]),
        }
    arrays = {
        "audio": normal(12, 64, 40).astype(np.float16),
        "image": pixels(10, 28, 28),
        "pen": normal(20, 32, 3),
        "sign": pixels(8, 48, 48),
        "audio_speaker": np.arange(12, dtype=np.int32) % 3,
        "class_name": np.array(["zero", "one"]),
    }
    for modality, count in DIGITS.items():
        arrays[f"{modality}_label"] = np.arange(count, dtype=np.int32) % 2
        arrays[f"{modality}_train"] = np.arange(count) < 0.7 * count
    # Recordings 0 … 7 against 8 … 11; digits alternate in every modality.
    arrays["pair_train"] = np.array([[r, r % 4, r + 2, r % 2] for r in range(8)], np.int32)
    arrays["pair_test"] = np.array([[r, r - 2, r + 8, r - 4] for r in range(8, 12)], np.int32)
    return arrays


def write(folder, name, **changes):
    arrays = {k: a for k, a in (content(name) | changes).items() if a is not None}
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


# -- files of the true form ------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_file_or_its_folder_gives_features_with_labels_and_split(name, tmp_path):
    file = write(tmp_path, name)
    loaded, again = MODULES[name].load(tmp_path), MODULES[name].load(str(file))
    assert loaded.name == name
    for modality, array in loaded.features.items():
        assert array.dtype == (np.int32 if modality == "keywords" else np.float32)
        assert np.isfinite(array[loaded.present[modality]]).all()
        np.testing.assert_array_equal(again.features[modality], array)
    if name != "digits4":
        np.testing.assert_array_equal(loaded.label, content(name)["label"])
        np.testing.assert_array_equal(loaded.train, content(name)["train"])


def test_handwritten6_keeps_its_six_views_as_they_are(tmp_path):
    loaded = handwritten6.load(write(tmp_path, "handwritten6"))
    source = content("handwritten6")
    assert loaded.modalities == ("pix", "fou", "fac", "zer", "kar", "mor")
    for view, array in loaded.features.items():
        np.testing.assert_array_equal(array, source[view])
    assert loaded.class_names == tuple("0123456789")
    assert len(set(loaded.group)) == 8


def test_mosi_groups_by_video(tmp_path):
    loaded = mosi.load(write(tmp_path, "mosi"))
    assert loaded.modalities == ("text", "audio", "visual")
    assert loaded.class_names == ("negative", "positive")
    np.testing.assert_array_equal(loaded.group, content("mosi")["video"])
    np.testing.assert_array_equal(loaded.features["audio"], content("mosi")["audio"])


def test_wikipedia_has_square_roots_and_bounded_logarithms(tmp_path):
    loaded = wikipedia.load(write(tmp_path, "wikipedia"))
    source = content("wikipedia")
    np.testing.assert_allclose(loaded.features["image"] ** 2, source["image"], atol=1e-6)
    np.testing.assert_allclose(np.exp(loaded.features["text"][1:]), source["text"][1:], rtol=1e-5)
    assert loaded.features["text"][0, 0] == np.float32(np.log(1e-4))
    assert loaded.class_names == ("art", "war")


def test_emoji_rows_of_pixels_and_what_is_absent(tmp_path):
    loaded = emoji.load(write(tmp_path, "emoji"))
    source = content("emoji")
    assert loaded.features["noto"].shape == (8, 32, 96)
    pixel = loaded.features["noto"][3, 7, 3 * 9 : 3 * 9 + 3]  # row 7, column 9
    np.testing.assert_allclose(pixel, source["noto"][3, 7, 9] / 255, rtol=1e-6)
    np.testing.assert_array_equal(loaded.present["emojitwo"], np.arange(8) < 5)
    np.testing.assert_array_equal(loaded.present["keywords"], np.arange(8) != 5)
    assert loaded.present["noto"].all()


def test_emoji_words_are_numbered_by_the_training_part(tmp_path):
    ids = emoji.load(write(tmp_path, "emoji")).features["keywords"]
    assert ids.shape == (8, 24)
    # 2 = cat and 3 = happy, as frequent, by the alphabet; "bird" and "dog" are of the test part.
    expected = [[3, 2], [1], [2, 3], [2, 1], [1], [], [1], [3, 3]]
    for row, words in zip(ids, expected, strict=True):
        np.testing.assert_array_equal(row, words + [0] * (24 - len(words)))


def test_emoji_words_may_be_unit_vectors(tmp_path):
    file = write(tmp_path, "emoji")
    ids = emoji.load(file).features["keywords"].astype(int)
    vectors = emoji.load(file, word_dim=50).features["keywords"]
    assert vectors.shape == (8, 24, 50)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), ids > 0, atol=1e-6)
    np.testing.assert_array_equal(vectors[0, 0], vectors[2, 1])  # the same word
    assert abs(vectors[0, 0] @ vectors[0, 1]) < 0.6  # another word


# -- pairs by class --------------------------------------------------------------------------------


def test_digits4_joins_the_rows_of_the_pairs_in_the_file(tmp_path):
    loaded = digits4.load(write(tmp_path, "digits4"))
    source = content("digits4")
    assert loaded.modalities == ("audio", "image", "pen", "sign")
    np.testing.assert_array_equal(loaded.train, np.arange(12) < 8)
    np.testing.assert_array_equal(loaded.label, np.arange(12) % 2)
    np.testing.assert_array_equal(loaded.group, np.arange(12) % 3)
    np.testing.assert_array_equal(loaded.features["audio"], source["audio"])
    np.testing.assert_allclose(loaded.features["image"][5], source["image"][1] / 255, rtol=1e-6)
    np.testing.assert_array_equal(loaded.features["pen"][9], source["pen"][17])
    np.testing.assert_allclose(loaded.features["sign"][11], source["sign"][7] / 255, rtol=1e-6)


def rows_of(loaded, source, modality) -> np.ndarray:
    """Which rows of a modality's array the examples are."""
    scale = 255 if source[modality].dtype == np.uint8 else 1
    flat = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
    distance = np.abs(flat(loaded.features[modality])[:, None] * scale - flat(source[modality]))
    assert (distance.max(-1).min(1) < 1e-3).all()
    return distance.max(-1).argmin(1)


def test_digits4_pairs_drawn_by_a_seed_are_of_one_digit_and_one_part(tmp_path):
    file, source = write(tmp_path, "digits4"), content("digits4")
    first, same, other = (digits4.load(file, pair_seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.features["audio"], source["audio"])  # recordings stay
    np.testing.assert_array_equal(first.label, np.arange(12) % 2)
    np.testing.assert_array_equal(first.train, np.arange(12) < 8)
    for modality in ("image", "pen", "sign"):
        np.testing.assert_array_equal(same.features[modality], first.features[modality])
        rows = rows_of(first, source, modality)
        np.testing.assert_array_equal(source[f"{modality}_label"][rows], first.label)
        np.testing.assert_array_equal(source[f"{modality}_train"][rows], first.train)
        for part, digit in ((True, 0), (True, 1), (False, 0), (False, 1)):
            of = lambda train, label, part=part, digit=digit: (train == part) & (label == digit)
            pool = np.flatnonzero(of(source[f"{modality}_train"], source[f"{modality}_label"]))
            uses = np.bincount(rows[of(first.train, first.label)], minlength=pool.max() + 1)[pool]
            assert uses.max() - uses.min() <= 1
    assert any(
        not np.array_equal(other.features[m], first.features[m]) for m in ("image", "pen", "sign")
    )


# -- files that are not right ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "key", "pattern"),
    [
        ("handwritten6", {"zer": None}, "zer", "this key"),
        ("handwritten6", {"fou": np.ones((8, 75), np.float32)}, "fou", r"\(8, 76\).*75"),
        ("handwritten6", {"pix": np.ones((8, 240), np.float32)}, "pix", "integer"),
        ("handwritten6", {"mor": np.full((8, 6), np.inf)}, "modality/mor", "inf in row 0"),
        ("handwritten6", {"label": np.full(8, 10)}, "label", "10 in row 0"),
        ("mosi", {"visual": np.ones((7, 100))}, "visual", r"\(8, 100\).*\(7, 100\)"),
        ("mosi", {"label": np.array([0, 1, 2, 0, 0, 1, 1, 0])}, "label", "2 in row 2"),
        ("mosi", {"video": None}, "video", "this key"),
        ("wikipedia", {"image": np.full((8, 128), np.nan)}, "modality/image", "nan in row 0"),
        ("wikipedia", {"text": np.ones((8, 10, 1))}, "text", r"\(8, 10\)"),
        ("wikipedia", {"train": np.ones(8, bool)}, "split", "test example"),
        ("emoji", {"noto": np.ones((8, 32, 32), np.uint8)}, "noto", r"\(8, 32, 32, 3\)"),
        ("emoji", {"keywords": np.arange(8)}, "keywords", "string"),
        ("emoji", {"has_emojitwo": np.ones(7, bool)}, "has_emojitwo", r"\(8\)"),
        ("digits4", {"audio": np.ones((12, 63, 40))}, "audio", r"\(any, 64, 40\)"),
        ("digits4", {"sign_label": np.zeros(7, int)}, "sign_label", r"\(8\).*\(7,\)"),
        ("digits4", {"pair_test": None}, "pair_test", "this key"),
        ("digits4", {"pair_test": np.array([[8, 6, 16, 8]])}, "pair_test", "sign.*8 in row 0"),
        ("digits4", {"pair_test": np.array([[8, -1, 16, 4]])}, "pair_test", "image.*-1 in row 0"),
        ("digits4", {"pair_test": np.array([[8, 6, 17, 4]])}, "pair_test", "one digit.*0, 0, 1, 0"),
        ("digits4", {"pair_test": np.array([[8, 2, 16, 4]])}, "pair_test", "image.*found 2"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_key(tmp_path, name, change, key, pattern):
    file = write(tmp_path, name, **change)
    with pytest.raises(FeatureFileError, match=pattern) as caught:
        MODULES[name].load(file)
    assert str(caught.value).startswith(f"{file}: {key}: expected")


def test_digits4_cannot_draw_from_a_digit_that_a_part_lacks(tmp_path):
    train = np.arange(10) < 9  # the only test image is of digit 1
    file = write(tmp_path, "digits4", image_train=train)
    digits4.load(file)
    with pytest.raises(FeatureFileError, match="image_train: expected False for some digit 0"):
        digits4.load(file, pair_seed=0)


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_or_cut_file_is_named(name, tmp_path):
    named = re.escape(f"{name}.npz: expected")
    with pytest.raises(FeatureFileError, match=rf"{named} .* nothing there"):
        MODULES[name].load(tmp_path)
    file = write(tmp_path, name)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(FeatureFileError, match=rf"{named} an \.npz file"):
        MODULES[name].load(tmp_path)


# -- the true files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes", "train", "test", "classes"),
    [
        ("handwritten6", [(240,), (76,), (216,), (47,), (64,), (6,)], 1600, 400, 10),
        ("digits4", [(64, 40), (28, 28), (32, 3), (48, 48)], 2700, 300, 10),
        ("emoji", [(32, 96), (32, 96), (24,)], 956, 409, 54),
        ("wikipedia", [(128,), (10,)], 2173, 693, 10),
        ("mosi", [(100,), (73,), (100,)], 1447, 752, 2),
    ],
)
def test_the_true_file_has_its_published_sizes(name, shapes, train, test, classes, shared_data):
    loaded = MODULES[name].load(shared_data(name))
    assert [a.shape[1:] for a in loaded.features.values()] == shapes
    assert (loaded.train.sum(), (~loaded.train).sum()) == (train, test)
    for part in (loaded.train, ~loaded.train):
        assert set(loaded.label[part]) == set(range(classes))
    assert loaded.num_classes == classes


def test_true_emoji_lack_what_they_are_said_to_lack(shared_data):
    loaded = emoji.load(shared_data("emoji"))
    assert loaded.present["emojitwo"].sum() == 885
    assert (~loaded.present["keywords"]).sum() == 2
    assert (loaded.features["emojitwo"][~loaded.present["emojitwo"]] == 1).all()  # white
    assert (loaded.features["keywords"] == 0)[:, -1].all()  # no list of keywords is cut


def test_true_mosi_has_no_speaker_in_both_parts(shared_data):
    loaded = mosi.load(shared_data("mosi"))
    videos = {part: set(loaded.group[loaded.train == part]) for part in (True, False)}
    assert (len(videos[True]), len(videos[False])) == (62, 31)
    assert not videos[True] & videos[False]


def test_true_digits_are_told_apart_by_a_linear_classifier_however_paired(shared_data):
    from sklearn.linear_model import RidgeClassifier

    loaded = digits4.load(shared_data("digits4"))
    redrawn = digits4.load(shared_data("digits4"), pair_seed=0)
    np.testing.assert_array_equal(redrawn.label, loaded.label)
    for modality in ("image", "pen"):
        score = []
        for data in (loaded, redrawn):
            x = data.features[modality].reshape(len(data.label), -1).astype(np.float64)
            model = RidgeClassifier(alpha=10).fit(x[data.train], data.label[data.train])
            score.append(model.score(x[~data.train], data.label[~data.train]))
        assert min(score) > 0.7, (modality, score)
