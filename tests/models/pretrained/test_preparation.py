"""What encoders are fed with, against their originals' own code."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from unirep_jax.data.extract.mel import htk, mel_filters, slaney
from unirep_jax.models.pretrained.preparation import (
    CLIP_PICTURE,
    VGG_PICTURE,
    VIT_PICTURE,
    Picture,
    Texts,
    clap_mel,
    vggish_patches,
)
from unirep_jax.models.pretrained.weights import Folder, WeightsError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def transformers():
    pytest.importorskip("torch", reason="the originals need PyTorch")
    return pytest.importorskip("transformers", reason="the originals are in transformers")


@pytest.fixture(params=["cat", "tall", "small"])
def picture(request):
    cat = pytest.importorskip("skimage.data").chelsea()
    array = {"cat": cat, "tall": cat[:, 100:250], "small": cat[40:141, 60:197]}[request.param]
    return Image.fromarray(array)


def original(transformers, kind, **settings):
    processor = getattr(transformers, f"{kind}ImageProcessorPil", None)
    if processor is None:
        processor = getattr(transformers, f"{kind}ImageProcessor")
    return processor(**settings)


@pytest.mark.parametrize("kind, ours", [("CLIP", CLIP_PICTURE), ("ViT", VIT_PICTURE)])
def test_pictures_are_prepared_as_transformers_does(transformers, picture, kind, ours):
    expected = original(transformers, kind)(images=picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(ours(picture), expected.transpose(1, 2, 0), atol=1e-5)


def test_a_published_configuration_says_how_pictures_are_prepared(transformers, picture):
    processor = original(
        transformers,
        "CLIP",
        size={"shortest_edge": 60},
        crop_size={"height": 48, "width": 48},
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.4, 0.5, 0.6],
        resample=2,
    )
    ours = Picture.from_config(processor.to_dict(), CLIP_PICTURE)
    assert ours == Picture(60, 48, 2, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    expected = processor(images=picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(ours(picture), expected.transpose(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize(
    "config, expected",
    [
        ({}, VGG_PICTURE),
        ({"size": 384, "do_center_crop": False}, Picture(384, None, 2)),
        ({"size": {"height": 32, "width": 32}, "crop_size": 30}, Picture(32, 30, 2)),
    ],
)
def test_older_forms_of_the_configuration_are_read(config, expected):
    assert Picture.from_config(config, VGG_PICTURE) == expected


def test_vgg_pictures_are_the_middle_of_the_resized_one(picture):
    found = VGG_PICTURE(picture)
    assert found.shape == (224, 224, 3) and found.dtype == np.float32
    scale = 256 / min(picture.size)
    whole = picture.resize((int(picture.width * scale), int(picture.height * scale)), 2)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    pixel = np.array(whole.getpixel((left + 3, top + 5))) / 255
    expected = (pixel - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found[5, 3], expected, atol=1e-5)


@pytest.fixture(params=[0.4, 3.0, 9.99, 10.0])
def clip(request, rng):
    """A sweep with noise, at 48 kHz."""
    time = np.arange(int(48000 * request.param)) / 48000
    wave = 0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + 0.05 * rng.normal(size=len(time))
    return wave.astype(np.float32)


def test_the_spectrogram_of_clap_is_that_of_transformers(transformers, clip):
    extractor = transformers.ClapFeatureExtractor(
        truncation="rand_trunc", frequency_min=50, frequency_max=14000
    )
    expected = extractor(clip, sampling_rate=48000, return_tensors="np")["input_features"][0, 0]
    np.testing.assert_allclose(clap_mel(clip, {}), expected, atol=2e-3)  # decibels, −100 … 40
    config = {"frequency_min": 20, "frequency_max": 9000}
    extractor = transformers.ClapFeatureExtractor(truncation="rand_trunc", **config)
    expected = extractor(clip, sampling_rate=48000, return_tensors="np")["input_features"][0, 0]
    np.testing.assert_allclose(clap_mel(clip, config), expected, atol=2e-3)


def test_a_long_sound_begins_as_a_short_one(rng):
    wave = rng.normal(size=48000 * 12).astype(np.float32)
    np.testing.assert_array_equal(clap_mel(wave, {}), clap_mel(wave[: 48000 * 10], {}))


@pytest.mark.parametrize("scale, name, unit", [(htk, "htk", None), (slaney, "slaney", "slaney")])
def test_mel_filters_are_those_of_transformers(transformers, scale, name, unit):
    from transformers.audio_utils import mel_filter_bank

    expected = mel_filter_bank(513, 64, 50.0, 14000.0, 48000, unit, name)
    found = mel_filters(48000, 1024, 64, 50, 14000, scale=scale, unit_area=unit is not None)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def port_of_vggish():
    """The module of spectrograms of the package torchvggish, which alone needs NumPy alone."""
    found = importlib.util.find_spec("torchvggish")
    if found is None:
        pytest.skip("the original is in torchvggish (pip install --no-deps torchvggish)")
    path = Path(found.submodule_search_locations[0]) / "mel_features.py"
    spec = importlib.util.spec_from_file_location("mel_features", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_patches_of_vggish_are_those_of_its_port(clip):
    mel_features = port_of_vggish()
    wave = clip[::3].astype(np.float64)  # as if at 16 kHz
    expected = mel_features.log_mel_spectrogram(
        wave,
        audio_sample_rate=16000,
        log_offset=0.01,
        window_length_secs=0.025,
        hop_length_secs=0.010,
        num_mel_bins=64,
        lower_edge_hertz=125,
        upper_edge_hertz=7500,
    )
    whole = mel_features.frame(expected, window_length=96, hop_length=96)
    found = vggish_patches(wave, 4)
    assert found.shape == (4, 96, 64)
    count = min(4, len(whole))
    np.testing.assert_allclose(found[:count], whole[:count], atol=1e-5)
    if len(wave) < 16000 * 2:
        np.testing.assert_allclose(found[-1], np.log(0.01), atol=1e-6)


@pytest.fixture
def tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "cat": 5, "dog": 6}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=50)  # published files have settings of their own
    made.enable_truncation(50)
    made.save(str(tmp_path / "tokenizer.json"))
    return Folder(tmp_path)


def test_texts_are_cut_with_their_special_tokens_and_padded_to_few_lengths(tokenizer):
    texts = Texts(tokenizer, 5)
    assert texts.ids("a cat") == [2, 4, 5, 3]
    assert texts.ids("a cat a dog a cat") == [2, 4, 5, 4, 3]
    assert texts.ids("a bird", special=False) == [4, 1]
    ids, mask = texts.pad([texts.ids("a"), texts.ids("a cat a dog")], padding=0)
    assert ids.tolist() == [[2, 4, 3, 0, 0], [2, 4, 5, 4, 3]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    wide = Texts(tokenizer, 100)
    assert wide.pad([wide.ids("a " * 20)], 0)[0].shape == (1, 32)


def test_a_folder_without_a_tokenizer_or_with_a_damaged_one_is_named(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"tokenizer.json: expected a tokenizer, found"):
        Texts(tokenizer, 5)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="expected the tokenizer of the weights"):
        Texts(tokenizer, 5)
