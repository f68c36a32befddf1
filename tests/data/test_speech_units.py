"""Bags of acoustic units: k-means against its definition, and that they tell what is said."""

import numpy as np
import pytest

from unirep_jax.data import load_features
from unirep_jax.data.extract import extract
from unirep_jax.data.extract.speech_units import _bag, cepstral_pieces, k_means, speech_units

RATE = 16000


def test_k_means_finds_clouds_and_each_centroid_is_the_mean_of_its_points(rng):
    middles = 10 * np.eye(5)
    points = np.repeat(middles, 40, axis=0) + 0.1 * rng.normal(size=(200, 5))
    centroids = k_means(points, 12, rng)
    nearest = ((points[:, None] - centroids) ** 2).sum(-1).argmin(axis=1)
    assert len(np.unique(nearest)) >= 10
    for middle in middles:
        assert (((centroids - middle) ** 2).sum(1) < 1).any()
    before = ((points - centroids[nearest]) ** 2).sum()
    for unit in np.unique(nearest):
        np.testing.assert_allclose(centroids[unit], points[nearest == unit].mean(0), atol=1e-6)
    assert before < ((points - points.mean(0)) ** 2).sum() / 100


def test_a_unit_without_points_takes_one(rng):
    points = np.concatenate([np.zeros((50, 3)), np.ones((1, 3))])
    centroids = k_means(points, 4, rng)
    assert centroids.shape == (4, 3) and np.isfinite(centroids).all()


def test_a_bag_is_a_unit_vector_of_soft_memberships(rng):
    pieces, centroids = rng.normal(size=(7, 4)), rng.normal(size=(3, 4))
    expected = np.zeros(3)
    for piece in pieces:
        weights = [np.exp(-np.linalg.norm(piece - centroid)) for centroid in centroids]
        expected += np.array(weights) / sum(weights)
    np.testing.assert_allclose(_bag(pieces, centroids), np.sqrt(expected / 7), atol=1e-9)
    assert np.linalg.norm(_bag(pieces, centroids)) == pytest.approx(1)


def test_pieces_are_of_the_sound_without_its_silent_ends_and_of_no_loudness(rng):
    sound = rng.normal(size=(40, 40))
    silence = np.full((50, 40), -9.0)
    pieces = cepstral_pieces(np.concatenate([silence, sound, silence]))
    assert pieces.shape == (1 + (46 - 15) // 3, 15 * 13)
    np.testing.assert_allclose(cepstral_pieces(sound + 3.0), cepstral_pieces(sound), atol=1e-9)
    assert cepstral_pieces(sound[:4]).shape == (1, 15 * 13)


@pytest.fixture
def words(tmp_path, rng):
    """Twenty takes each of three words of three tones, some in silence; loudness differs."""
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    melodies = [(300, 900, 2000), (2000, 900, 300), (900, 300, 900)]
    lines = ["split,class_name,voice,text"]
    for i in range(60):
        parts = []
        for hertz in melodies[i % 3]:
            time = np.arange(int(RATE * rng.uniform(0.15, 0.2))) / RATE
            parts.append(np.sin(2 * np.pi * hertz * rng.uniform(0.97, 1.03) * time))
        wave = rng.uniform(0.2, 0.8) * np.concatenate([np.zeros(2000), *parts, np.zeros(3000)])
        soundfile.write(tmp_path / f"{i}.wav", wave + 1e-4 * rng.normal(size=len(wave)), RATE)
        lines.append(f"{'test' if i >= 45 else 'train'},w{i % 3},{i}.wav,word {i % 3}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    return tmp_path


def test_the_nearest_bag_is_of_the_same_word(words, tmp_path):
    (words / "5.wav").write_bytes(b"damaged")
    card = extract(
        words, tmp_path / "out", encode=["voice:speech_units,units=16"], skip_damaged=True
    )
    found = load_features(tmp_path / "out")
    assert card["modalities"]["voice"]["learned_from"]["sounds"] == 44
    bags, here = found.features["voice"], found.present["voice"]
    assert bags.shape == (60, 16) and not bags[5].any()
    train, test = found.train & here, ~found.train
    nearest = (bags[test] @ bags[train].T).argmax(axis=1)
    assert (found.label[train][nearest] == found.label[test]).mean() > 0.9
    again = extract(
        words, tmp_path / "again", encode=["voice:speech_units,units=16"], skip_damaged=True
    )
    assert again["modalities"] == card["modalities"]
    np.testing.assert_array_equal(load_features(tmp_path / "again").features["voice"], bags)


def test_few_pieces_leave_units_empty_and_none_is_an_error(words):
    encoder = speech_units(units=4096)
    encoder.fit([words / "0.wav", words / "1.wav"])
    bags = encoder.encode([encoder.prepare(words / "2.wav")])
    assert bags.shape == (1, 4096) and np.linalg.norm(bags) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="no training sound"):
        speech_units().fit([words / "none.wav"])
