"""The digits: shapes, reproducibility, and that each modality says what it is said to say."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unirep_jax.data import digits_avt


@pytest.fixture(scope="module")
def digits():
    return digits_avt.load()


def accuracy(digits, modality) -> float:
    x = digits.features[modality].reshape(len(digits.label), -1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(x[digits.train], digits.label[digits.train])
    return model.score(x[~digits.train], digits.label[~digits.train])


def test_three_modalities_share_eight_steps(digits):
    assert digits.name == "digits_avt"
    assert {m: a.shape for m, a in digits.features.items()} == {
        "video": (1797, 8, 8),
        "audio": (1797, 8, 64),
        "text": (1797, 8, 32),
    }
    assert all(a.dtype == np.float32 for a in digits.features.values())
    assert digits.class_names[7] == "seven" and digits.num_classes == 10
    np.testing.assert_array_equal(digits.train, np.arange(1797) < 1197)
    assert all(p.all() for p in digits.present.values())


def test_loading_twice_gives_the_same_numbers_quickly(digits):
    start = time.process_time()
    again = digits_avt.load()
    assert time.process_time() - start < 6  # about 1 s where nothing else runs
    for modality, array in digits.features.items():
        np.testing.assert_array_equal(again.features[modality], array)


def test_the_video_is_the_image_column_by_column(digits):
    source = load_digits()
    for i in (0, 1000):
        for t in range(8):
            np.testing.assert_array_equal(
                digits.features["video"][i, t], source.images[i][:, t] / 16
            )
    np.testing.assert_array_equal(digits.label, source.target)


@pytest.mark.parametrize(("modality", "least"), [("video", 0.88), ("audio", 0.85), ("text", 0.999)])
def test_each_modality_alone_tells_the_digit_of_new_images(digits, modality, least):
    assert accuracy(digits, modality) > least


def test_the_audio_carries_the_image(digits):
    """Ridge regression from the sound gives the pixels back, on images it has not seen."""
    sound = digits.features["audio"].reshape(-1, 64).astype(np.float64)  # a step each
    column = digits.features["video"].reshape(-1, 8).astype(np.float64)
    train = np.repeat(digits.train, 8)
    mean = sound[train].mean(axis=0)
    x = np.c_[sound - mean, np.ones(len(sound))]
    gram = x[train].T @ x[train] + 10 * np.eye(x.shape[1])
    guess = x[~train] @ np.linalg.solve(gram, x[train].T @ column[train])
    error = ((guess - column[~train]) ** 2).mean()
    assert error < 0.25 * column[~train].var()


def test_a_bright_row_sounds_at_its_own_pitch_in_its_own_column():
    image = np.zeros((16, 8, 8), np.float32)
    for i in range(8):
        image[i, i, 3] = 1  # row i, column 3
        image[8 + i, 2, i] = 1  # row 2, column i
    wave = digits_avt._sound(image).reshape(16, 8, 1024)
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(1024, 1 / 8000)
    pitch = frequency[power[np.arange(8), 3].argmax(axis=-1)]
    np.testing.assert_allclose(pitch, 3000 * 10 ** (-np.arange(8) / 7), atol=8)
    loudest = power.sum(axis=-1).argmax(axis=1)
    np.testing.assert_array_equal(loudest, [3] * 8 + list(range(8)))


def test_waveform_equals_the_sum_of_sines_written_out():
    image = np.random.default_rng(3).random((2, 8, 8)).astype(np.float32)
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (2, 8, 1))
    noise = rng.standard_normal((2, 8192), np.float32)
    frequency = 3000 * 10 ** (-np.arange(8) / 7)
    wave = digits_avt._sound(image)
    for i, s in ((0, 0), (0, 1023), (0, 1024), (1, 5000), (1, 8191)):
        expected = 0.2 * noise[i, s]
        for r in range(8):
            angle = 2 * np.pi * frequency[r] * s / 8000 + phase[i, r, 0]
            expected += image[i, r, s // 1024] * np.sin(angle)
        np.testing.assert_allclose(wave[i, s], expected, atol=1e-4)


def test_log_mel_equals_the_formula_on_one_frame():
    wave = np.random.default_rng(0).standard_normal((2, 8192)).astype(np.float32)
    bands = digits_avt._log_mel(wave)
    frame = wave[1, 5 * 512 : 6 * 512]  # the second frame of step 2
    hann = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 512) for n in range(512)])
    power = np.abs(np.fft.rfft(frame * hann)) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 34)
    corner = 700 * (10 ** (mel / 2595) - 1)
    for band in (0, 7, 31):
        total = 0.0
        for b, p in enumerate(power):
            weight = np.interp(b * 8000 / 512, corner[band : band + 3], [0, 1, 0], left=0, right=0)
            total += weight * p
        np.testing.assert_allclose(bands[1, 2, 32 + band], np.log(total + 1e-3), rtol=1e-4)


def test_captions_describe_the_stroke():
    def stroke(lean, width=1):
        image = np.zeros((8, 8), np.float32)
        for row in range(8):
            start = round(3.5 - lean * (row - 3.5))
            image[row, max(start - width // 2, 0) : start + width // 2 + 1] = 1
        return image

    images = np.stack([stroke(-0.8), stroke(0), stroke(0.8), stroke(0, 5), stroke(0, 3)])
    captions = digits_avt._captions(images, np.array([1, 1, 1, 7, 0]), np.arange(5) < 3)
    assert [caption[3] for caption in captions[:3]] == ["left-leaning", "upright", "right-leaning"]
    assert captions[3][1] == "bold" and captions[0][1] == "thin"
    assert captions[1][2] == "narrow"
    assert [caption[-1] for caption in captions] == ["one", "one", "one", "seven", "zero"]
    assert all(len(caption) <= 8 for caption in captions)


def test_word_vectors_are_fixed_unit_and_nearly_orthogonal(digits):
    words = [*digits_avt._CLASSES, *digits_avt._INK, *digits_avt._WIDTH, *digits_avt._LEAN]
    vectors = np.array([digits_avt._word_vector(word) for word in words])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-12)
    similarity = vectors @ vectors.T - np.eye(len(words))
    assert np.abs(similarity).max() < 0.65
    np.testing.assert_allclose(
        vectors[7][:3], [0.0143704, 0.0210173, 0.318676], atol=1e-6
    )  # the same on every machine
    text = digits.features["text"]
    assert (text[:, 7] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(text[:, :7], axis=-1), 1, rtol=1e-5)
    seven = digits.label == 7
    np.testing.assert_allclose(text[seven, 6], np.tile(vectors[7], (seven.sum(), 1)), rtol=1e-5)
