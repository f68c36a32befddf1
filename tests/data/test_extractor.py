"""Files and texts that are not in a set, as the encoders that made it see them."""

import json

import numpy as np
import pytest

from unirep_jax.data import load_features
from unirep_jax.data.extract import EncoderError, Extractor, MediaError, extract

Image = pytest.importorskip("PIL.Image")
ENCODE = ("image:pixels,size=4", "caption:words,dim=8,length=3,min_count=1")


@pytest.fixture
def folder(tmp_path, rng):
    """Twelve pictures with a text each."""
    for i in range(12):
        for kind in ("image", "caption"):
            (tmp_path / "media" / kind).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        picture.save(tmp_path / "media" / "image" / f"{i:02}.png")
        (tmp_path / "media" / "caption" / f"{i:02}.txt").write_text(f"picture word{i % 5}\n")
    return tmp_path / "media"


@pytest.fixture
def made(folder, tmp_path):
    extract(folder, tmp_path / "set", encode=ENCODE, test_fraction=0.5, seed=3)
    return tmp_path / "set"


def test_what_is_in_the_set_is_seen_as_it_was(folder, made, monkeypatch):
    monkeypatch.chdir(folder)  # paths of queries are relative to where we are
    data, read = load_features(made), Extractor(made)
    assert {*read.modalities} == {"image", "caption"}
    files = [f"image/{i:02}.png" for i in range(12)]
    np.testing.assert_array_equal(read("image", files), data.features["image"])
    texts = [f"picture word{i % 5}" for i in range(12)]
    np.testing.assert_array_equal(read("caption", texts), data.features["caption"])


def test_a_new_text_is_made_of_the_words_of_the_training_texts(made):
    read = Extractor(made)
    first, both = read("caption", ["picture", "picture unheard"])
    assert np.abs(first[0]).max() > 0
    np.testing.assert_array_equal(first[0], both[0])


def test_a_damaged_file_is_named(made, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"broken\.png"):
        Extractor(made)("image", [tmp_path / "broken.png"])


def test_what_cannot_be_read_is_refused_by_name(made, tmp_path):
    with pytest.raises(EncoderError, match="no modality 'sound'; there is image, caption"):
        Extractor(made)("sound", ["a.wav"])
    with pytest.raises(EncoderError, match="image: no file or text is given"):
        Extractor(made)("image", [])
    with pytest.raises(EncoderError, match="is not the card of an extracted set"):
        Extractor(tmp_path)


def test_another_encoder_than_that_of_the_set_is_refused(made):
    card = json.loads((made / "card.json").read_text())
    card["encoders"]["image"] = {"weights": {"model.safetensors": "0" * 64}}
    (made / "card.json").write_text(json.dumps(card))
    with pytest.raises(EncoderError, match="image was made with"):
        Extractor(made)("image", ["x.png"])


def test_a_card_of_an_earlier_version_says_what_is_missing(made):
    card = json.loads((made / "card.json").read_text())
    del card["seed"]
    (made / "card.json").write_text(json.dumps(card))
    with pytest.raises(EncoderError, match="no 'seed'; extract the set again"):
        Extractor(made)
