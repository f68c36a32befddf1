"""Command line: python -m unirep_jax.convert CHECKPOINT.pt OUT.safetensors: released weights.

The authors' checkpoints of MICU and DCID are pickles, which this library never reads. This step,
once and apart, needs PyTorch (`pip install torch`), lets it load tensors and plain containers
alone, and writes those that inference needs under the authors' names and in their precision; what
NumPy has no type for, as bfloat16, in float32.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from unirep_jax.data.files import open_regular, user_path


def convert(checkpoint: str | Path, out: str | Path) -> list[str]:
    """Writes the file that `models.released_weights` reads, or nothing; the names in it.

    Args:
      checkpoint: of the authors, with `Encoder_parameters` and `Text_ar_lstm_parameters`.
      out: replaced if it exists.

    Raises:
      ValueError: the checkpoint cannot be loaded safely, is not one of MICU or DCID, or a tensor in
        it is none of finite floats.
    """
    import torch  # before JAX: some versions crash the other way round
    from safetensors.numpy import save

    from unirep_jax.data.mapped import replace_file
    from unirep_jax.models.released_weights import (
        ENCODER,
        TEXT_LSTM,
        check_shapes,
        expected_shapes,
    )

    checkpoint, out = user_path(checkpoint), user_path(out)
    try:
        open_regular(checkpoint).close()  # a pipe would never end
        parts = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by what is wrong with the file
        raise ValueError(f"{checkpoint}: {type(error).__name__}: {error}") from error
    if not isinstance(parts, dict) or not {ENCODER, TEXT_LSTM} <= parts.keys():
        found = ", ".join(map(str, parts)) if isinstance(parts, dict) else type(parts).__name__
        raise ValueError(f"{checkpoint}: expected {ENCODER} and {TEXT_LSTM}, found {found}")
    tensors = {}
    for part in (ENCODER, TEXT_LSTM):
        if not isinstance(parts[part], dict):
            found = type(parts[part]).__name__
            raise ValueError(f"{checkpoint}: {part}: expected tensors by name, found {found}")
        tensors |= {f"{part}.{name}": x for name, x in parts[part].items()}
    # What is no tensor has no shape, and is missing if it is needed.
    shapes = {name: tuple(x.shape) for name, x in tensors.items() if isinstance(x, torch.Tensor)}
    check_shapes(checkpoint, shapes)
    arrays = {name: _array(checkpoint, name, tensors[name]) for name in expected_shapes()}
    replace_file(out, lambda stream: stream.write(save(arrays)))
    return list(arrays)


def _array(checkpoint: Path, name: str, tensor: Any) -> np.ndarray:
    """The values of a dense tensor of floats."""
    import torch

    if tensor.layout != torch.strided or not tensor.dtype.is_floating_point or tensor.is_meta:
        found = f"{tensor.dtype}, {tensor.layout}, {tensor.device}"
        raise ValueError(f"{checkpoint}: {name}: expected floats, found {found}")
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    array = tensor.detach().contiguous().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{checkpoint}: {name} is not finite")
    return array


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m unirep_jax.convert", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("checkpoint", help="MICU.pt, AVT_vgg40k_size400.pt ...")
    parser.add_argument("out", help="a safetensors file")
    options = parser.parse_args(arguments)
    try:
        names = convert(options.checkpoint, options.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}; the conversion needs PyTorch: pip install torch")
    print(f"{options.out}: {len(names)} tensors")


if __name__ == "__main__":
    main()
