"""A saved connector projects as the method that it came from, with JAX and with NumPy alone."""

import json
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save

from unirep_jax import connect
from unirep_jax.methods import CMCR

DOCS = Path(__file__).parents[2] / "docs"
SHAPES = {"text_1": (6,), "image_1": (6,), "text_2": (10,), "audio_2": (10,)}


def trained(**changes):
    """A method with running statistics that are not those it starts with."""
    method = CMCR(**({"dim": 8, "hidden": 12} | changes))
    params, state = method.init(jax.random.key(0), SHAPES, {})
    rng = np.random.default_rng(0)
    shake = lambda x: jnp.abs(x + 0.5 * rng.normal(size=x.shape).astype(np.float32))
    return method, jax.tree.map(shake, params), jax.tree.map(shake, state)


@pytest.mark.parametrize("changes", [{}, {"final_relu": False}, {"hidden": 0}])
def test_a_saved_connector_projects_as_the_method_does(tmp_path, changes):
    method, params, state = trained(**changes)
    path = tmp_path / "connector.safetensors"
    connect.Connector.of_method(method, params, state).save(path)
    connector = connect.load(path)
    for space, streams in method.streams.items():
        for stream in streams:
            x = np.random.default_rng(1).normal(size=(7, *SHAPES[stream])).astype(np.float32)
            ours = connector.project(space, stream[:-2], x, batch_size=3)
            np.testing.assert_allclose(
                ours,
                method.embed(params, state, stream, jnp.asarray(x)).vector,
                rtol=1e-4,
                atol=1e-5,
            )
            np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)


def test_the_file_is_read_and_used_with_numpy_alone(tmp_path):
    """What docs/connect.md shows."""
    method, params, state = trained()
    path = tmp_path / "connector.safetensors"
    connector = connect.Connector.of_method(method, params, state)
    connector.save(path)
    text = (DOCS / "connect.md").read_text()
    code = text.split("```python numpy\n")[1].split("```")[0]
    names = {}
    exec(code, names)
    x = np.random.default_rng(2).normal(size=(5, 10)).astype(np.float32)
    np.testing.assert_allclose(
        names["project"](path, "second", x),
        connector.project("second", "audio", x),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_zero_row_stays_zero_and_half_precision_is_read(tmp_path):
    connector = connect.Connector.of_method(*trained(final_relu=False))
    x = np.ones((2, 6), np.float16)
    assert connector.project("first", "text", x).dtype == np.float32
    assert np.isfinite(connector.project("first", "text", 0 * x)).all()


@pytest.mark.parametrize(
    ("space", "modality", "x", "message"),
    [
        ("third", "text", np.ones((2, 6)), "space 'third' is none of first, second"),
        ("first", "audio", np.ones((2, 6)), "'audio' is none of text, image, which first embeds"),
        ("first", "text", np.ones((2, 7)), r"must be \[row, 6\], got \(2, 7\)"),
        ("first", "text", np.ones(6), r"must be \[row, 6\], got \(6,\)"),
        ("first", "text", np.ones((0, 6)), r"must be \[row, 6\], got \(0, 6\)"),
        ("first", "text", np.array([[1.0] * 6, [np.nan] * 6]), "row 1 is not finite"),
    ],
)
def test_what_cannot_be_projected_is_refused(space, modality, x, message):
    with pytest.raises(ValueError, match=message):
        connect.Connector.of_method(*trained()).project(space, modality, x, batch_size=1)


def edited(path, tensors=None, metadata=None):
    """The file at `path` with some of its contents replaced; None removes a tensor."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    about = header.pop("__metadata__") | (metadata or {})
    found = {
        name: np.frombuffer(raw[8 + length :][slice(*entry["data_offsets"])], np.float32)
        .reshape(entry["shape"])
        .copy()
        for name, entry in header.items()
    }
    found = {k: v for k, v in (found | (tensors or {})).items() if v is not None}
    path.write_bytes(save(found, about))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"format": "other"}}, "format is 'other'"),
        ({"tensors": {"first/0/bias": None}}, "tensor 'first/0/bias' is missing"),
        ({"tensors": {"first/1/weight": np.ones((3, 8), np.float32)}}, "maps of first do not"),
        ({"tensors": {"second/1/bias": np.ones(3, np.float32)}}, "maps of second do not"),
    ],
)
def test_another_file_is_refused_by_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "connector.safetensors"
    connect.Connector.of_method(*trained()).save(path)
    edited(path)
    assert connect.load(path).spaces.keys() == {"first", "second"}, "the edit itself is harmless"
    edited(path, **change)
    with pytest.raises(ValueError, match=message):
        connect.load(path)


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "connector.safetensors"
    for content in (b"", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"connector\.safetensors: not a safetensors file"):
            connect.load(path)
    with pytest.raises(ValueError, match=r"absent\.safetensors"):
        connect.load(tmp_path / "absent.safetensors")
