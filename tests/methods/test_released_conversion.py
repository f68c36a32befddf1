"""From a checkpoint of PyTorch to a evaluated encoder. PyTorch runs in a process of its own."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax import convert
from unirep_jax.data.published_shapes import SHAPES
from unirep_jax.methods import Released
from unirep_jax.models.released_weights import expected_shapes, load_weights

TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
def test_a_converted_checkpoint_computes_what_pytorch_computes_and_others_are_refused(tmp_path):
    script = Path(__file__).with_name("released_torch.py")
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    half, count, *refusals = result.stdout.splitlines()
    assert half == f"{tmp_path / 'half.safetensors'}: {len(expected_shapes())} tensors"
    assert (load_weights(tmp_path / "half.safetensors").codebook["codebook"] == 1.5).all()
    assert count == f"{tmp_path / 'MICU.safetensors'}: {len(expected_shapes())} tensors"
    harmful, bare, other, *tensors, absent, pipe = map(ast.literal_eval, refusals)
    assert "harmful.pt: UnpicklingError" in harmful and "PosixPath" in harmful
    assert "bare.pt: expected Encoder_parameters and Text_ar_lstm_parameters" in bare
    assert "other.pt: not weights of MICU or DCID\n  missing: Encoder_parameters.audio" in other
    assert "weight_hh_l0: expected [512, 128], found [256, 64]" in other
    assert "absent.pt: FileNotFoundError" in absent and "pipe.pt: OSError" in pipe
    name = "Encoder_parameters.Cross_quantizer.embedding"
    for found, text in zip(
        (
            f"nan.pt: {name} is not finite",
            f"complex.pt: {name}: expected floats, found torch.complex64",
            f"integer.pt: {name}: expected floats, found torch.int32",
            f"sparse.pt: {name}: expected floats, found torch.float32, torch.sparse_coo",
            f"number.pt: not weights of MICU or DCID\n  missing: {name}",
            "list.pt: Encoder_parameters: expected tensors by name, found list",
        ),
        tensors,
        strict=True,
    ):
        assert found in text

    method = Released.dcid(str(tmp_path / "MICU.safetensors")).for_data(SHAPES, classes=0)
    params, _ = method.solve(None)
    with np.load(tmp_path / "computed.npz") as computed:
        for m in SHAPES:
            encode = jax.jit(lambda params, x, m=m: method.encode(params, m, x))
            z = encode(params, jnp.asarray(computed[f"x/{m}"], jnp.float32))
            np.testing.assert_allclose(z, computed[f"z/{m}"], rtol=1e-4, atol=1e-4, err_msg=m)


def test_without_pytorch_the_conversion_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match="pip install torch"):
        convert.main([str(tmp_path / "MICU.pt"), str(tmp_path / "MICU.safetensors")])
    assert not any(tmp_path.iterdir())
