"""Released weights: what is computed with them, what is read, and what is refused."""

import os

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import released_reference as reference
from safetensors.numpy import save_file

from unirep_jax.data import published_shapes
from unirep_jax.methods import Released
from unirep_jax.models.released import ReleasedEncoder
from unirep_jax.models.released_weights import check_weights, expected_shapes, load_weights

SHAPES = published_shapes.SHAPES
EMBEDDING = f"{reference.ENCODER}.Cross_quantizer.embedding"
ENCODE = jax.jit(Released().encode, static_argnums=1)


@pytest.fixture(scope="module")
def tensors():
    return reference.fabricate()


@pytest.fixture(scope="module")
def path(tensors, tmp_path_factory):
    """In float64, as the authors' are."""
    file = tmp_path_factory.mktemp("released") / "weights.safetensors"
    save_file(tensors, file)
    return file


@pytest.fixture(scope="module")
def variables(path):
    method = Released.dcid(str(path)).for_data(SHAPES, classes=4)
    return method.solve(None)


def features(modality, rng, scale=1.0):
    x = scale * rng.standard_normal((3, *SHAPES[modality]))
    if modality == "text":
        x[1, 7:] = 0  # a short text
    return x


@pytest.mark.parametrize("modality", SHAPES)
def test_sequences_are_those_of_the_authors_network(modality, tensors, variables, rng):
    x = features(modality, rng)
    expected = reference.encode(tensors, modality, x)
    ours = ENCODE(variables[0], modality, jnp.float32(x))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.5, "and there is something to compare"


def test_faint_features_are_normalized_with_the_authors_epsilon(tensors, tmp_path, rng):
    """At 1e-6 these would differ by a tenth."""
    faint = tensors.copy()
    for name in faint:
        if name.startswith(f"{reference.ENCODER}.audio_self_att"):
            small = "affine" in name or "out_proj" in name
            faint[name] = tensors[name] * (1e-2 if small else 0.1 if "in_proj" in name else 1)
    save_file(faint, tmp_path / "faint.safetensors")
    params, _ = load_weights(tmp_path / "faint.safetensors")
    x = features("audio", rng, scale=0.1)
    ours = ENCODE(params, "audio", jnp.float32(x))
    np.testing.assert_allclose(ours, reference.encode(faint, "audio", x), rtol=1e-3, atol=1e-3)


def test_codes_are_the_nearest_and_for_micu_the_first_is_zero(path, tensors, rng):
    x = features("audio", rng)
    z = reference.encode(tensors, "audio", x)
    embed = jax.jit(lambda p, s, x: Released().embed(p, s, "audio", x))
    for preset in ("micu", "dcid"):
        variables = getattr(Released, preset)(str(path)).solve(None)
        found, _, places = embed(*variables, jnp.float32(x))
        expected, indices = reference.quantize(tensors, z, zero_first_code=preset == "micu")
        np.testing.assert_array_equal(places, indices)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert (indices == 0).any() == (preset == "micu"), "zero is nearer than random codes"


def test_every_parameter_of_the_encoders_is_read_and_so_are_the_moving_averages(variables, tensors):
    params, state = variables
    for m, shape in SHAPES.items():
        init = ReleasedEncoder(m).init
        made = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
        assert describe(params[m]) == describe(made["params"])
    codebook, quantizer = state["codebook"], f"{reference.ENCODER}.Cross_quantizer"
    for field, name in (
        ("count", "ema_count"),
        ("weight", "ema_weight"),
        ("age", "unactivated_count"),
    ):
        np.testing.assert_allclose(getattr(codebook, field), tensors[f"{quantizer}.{name}"], 1e-6)


def test_what_is_judged_has_as_many_parameters_as_the_authors_model_has():
    """9.0 M with the layer of which each stack is a copy, which nobody uses."""
    sizes = {name: int(np.prod(shape)) for name, shape in expected_shapes().items()}
    of = lambda part: sum(size for name, size in sizes.items() if part in name)
    assert of("Text_ar_lstm") == 1_314_816 and of("video_semantic_encoder") == 328_449
    layer = of("audio_self_att.encoder.layers.0")
    assert sum(sizes.values()) - of("Cross_quantizer") + 3 * layer == 8_981_249


# -- files that are not such weights ---------------------------------------------------------------


def empty(**changes):
    """Tensors of the right shapes, in half precision, with changes; None leaves one out."""
    made = {name: np.zeros(shape, np.float16) for name, shape in expected_shapes().items()}
    return {name: x for name, x in (made | changes).items() if x is not None}


def test_everything_that_is_wrong_with_names_and_shapes_is_said_at_once(tmp_path):
    codebook, bias = np.zeros((512, 256), np.float16), np.zeros(255, np.float16)
    first = f"{reference.ENCODER}.audio_self_att.affine_matrix"
    second = f"{reference.LSTM}.weight_hh_l1"
    changes = {
        EMBEDDING: codebook,
        f"{first}.bias": bias,
        f"{first}.weight": None,
        second: None,
        f"{reference.ENCODER}.extra": bias,
        "Other.extra": bias,
        "Decoder_parameters.x": bias,
    }
    save_file(empty(**changes), tmp_path / "micu.safetensors")
    with pytest.raises(ValueError) as caught:
        check_weights(tmp_path / "micu.safetensors")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path / 'micu.safetensors'}: not weights of MICU or DCID"
    assert lines[1] == f"  missing: {first}.weight, {second}"
    assert set(lines[2].removeprefix("  unexpected: ").split(", ")) == {
        f"{reference.ENCODER}.extra",
        "Other.extra",
    }
    assert set(lines[3:]) == {
        f"  {EMBEDDING}: expected [400, 256], found [512, 256]",
        f"  {first}.bias: expected [256], found [255]",
    }


def test_integers_and_values_that_are_not_finite_are_refused_by_name(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(empty(**{EMBEDDING: np.zeros((400, 256), np.int32)}), file)
    with pytest.raises(ValueError, match=rf"F16, BF16, F32, F64, but {EMBEDDING} is I32"):
        check_weights(file)
    save_file(empty(**{EMBEDDING: np.full((400, 256), np.nan, np.float16)}), file)
    with pytest.raises(ValueError, match=rf"{EMBEDDING} is not finite"):
        load_weights(file)


@pytest.mark.parametrize("value", [np.inf, 1e300, -1e39])
def test_weights_beyond_single_precision_are_refused_by_name(tmp_path, value):
    file = tmp_path / "weights.safetensors"
    save_file(empty(**{EMBEDDING: np.full((400, 256), value)}), file)
    with pytest.raises(ValueError, match=rf"{EMBEDDING} is not finite, or beyond 1e\+38"):
        load_weights(file)


def test_complex_weights_are_refused_by_name(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(empty(**{EMBEDDING: np.zeros((400, 256), np.complex64)}), file)
    with pytest.raises(ValueError, match=rf"{EMBEDDING} is C64"):
        check_weights(file)


def test_bfloat16_is_read_as_single(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(empty(**{EMBEDDING: np.full((400, 256), 1.5, ml_dtypes.bfloat16)}), file)
    codebook = load_weights(file).codebook["codebook"]
    assert codebook.dtype == np.float32 and (codebook == 1.5).all()


@pytest.mark.parametrize("place", ["a pipe", "a folder", "a link to itself"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, place):
    file = tmp_path / "weights.safetensors"
    if place == "a pipe":
        os.mkfifo(file)
    elif place == "a folder":
        file.mkdir()
    else:
        file.symlink_to(file)
    for read in (check_weights, load_weights):
        with pytest.raises(ValueError, match=r"weights\.safetensors: not a safetensors file"):
            read(file)


def test_half_precision_is_read_as_single(tmp_path):
    save_file(empty(), tmp_path / "weights.safetensors")
    leaves = jax.tree.leaves(load_weights(tmp_path / "weights.safetensors"))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


def test_a_pickle_is_refused_and_so_is_a_file_that_is_not_there(tmp_path):
    (tmp_path / "MICU.pt").write_bytes(b"PK\x03\x04" + bytes(99))
    for name in ("MICU.pt", "absent.safetensors"):
        with pytest.raises(ValueError, match=rf"{name}: not a safetensors file"):
            check_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"audio": (10, 64)}, r"audio: released weights take \[time, 128\], not \(10, 64\)"),
        ({"audio": (128,)}, r"take \[time, 128\], not \(128,\)"),
        ({"video": (10, 512)}, r"video: .*\[time, 7, 7, 512\], not \(10, 512\)"),
        ({"flow": (10, 128)}, r"no 'flow', only audio, video, text"),
        (SHAPES, r"method\.weights names no file"),
    ],
)
def test_features_that_the_weights_are_not_for_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        Released().for_data(shapes, classes=4)


def test_sequences_of_any_length_are_encoded(path, tensors, variables, rng):
    Released(str(path)).for_data({"audio": (6, 128)}, classes=4)
    x = rng.standard_normal((2, 6, 128))
    ours = ENCODE(variables[0], "audio", jnp.float32(x))
    np.testing.assert_allclose(ours, reference.encode(tensors, "audio", x), rtol=1e-4, atol=1e-4)
