"""Released weights as the start of a training, and what a training made as released weights."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax.data.published_shapes import SHAPES
from unirep_jax.losses import CodebookState
from unirep_jax.models.published import WORDS
from unirep_jax.models.released_weights import (
    CODES,
    DIM,
    LAYERS,
    ReleasedWeights,
    check_weights,
    load_weights,
    named_tensors,
)


def check_start(
    path: str, shapes: Mapping[str, tuple[int, ...]], *, dim: int, codes: int, layers: int
) -> None:
    """Whether a published network of these settings can start from the file.

    Raises:
      ValueError: a setting or the features are not those of the weights, or as `check_weights`.
    """
    found, expected = {"dim": dim, "codes": codes, "layers": layers}, (DIM, CODES, LAYERS)
    for (name, value), needed in zip(found.items(), expected, strict=True):
        if value != needed:
            raise ValueError(f"method.{name}={value}: released weights have {needed}")
    for m, shape in shapes.items():
        if m not in SHAPES or len(shape) != len(SHAPES[m]) or shape[-1] != SHAPES[m][-1]:
            known = ", ".join(f"{name} {list(s)}" for name, s in SHAPES.items())
            raise ValueError(f"{m} {list(shape)}: released weights are of {known}")
    check_weights(path)


def start_from(path: str, network: dict) -> tuple[dict, CodebookState]:
    """Parameters of a `PublishedNetwork`, encoders and LSTM read from the file; the codebook.

    Modality-specific encoders and decoders are not in the file; they stay as they are.
    """
    weights = load_weights(path)
    for m, params in weights.params.items():
        if f"encoders_{m}" in network:
            network = network | {f"encoders_{m}": params["Encoder_0"]}
    if "words" in network:
        layers = _lstms(weights.params[WORDS])
        network = network | {
            "words": {
                n: x | {"recurrent_bias": np.zeros_like(x["bias"])} for n, x in layers.items()
            }
        }
    codebook = {name: jnp.asarray(array) for name, array in weights.codebook.items()}
    codebook["age"] = codebook["age"].astype(jnp.int32)
    return jax.tree.map(jnp.asarray, network), CodebookState(**codebook)


def released_tensors(network: dict, codebook: CodebookState) -> dict[str, np.ndarray]:
    """What `start_from` reads, under the authors' names, of a trained `PublishedNetwork`.

    Raises:
      ValueError: it lacks one of the three modalities, or has other widths.
    """
    absent = [m for m in SHAPES if f"encoders_{m}" not in network]
    if absent or "words" not in network:
        raise ValueError(f"released weights have {', '.join(SHAPES)}; the network lacks {absent}")
    params = {m: {"Encoder_0": network[f"encoders_{m}"]} for m in SHAPES}
    for name, layer in network["words"].items():
        rest = {kind: x for kind, x in layer.items() if kind != "recurrent_bias"}
        params[WORDS][name] = rest | {"bias": layer["bias"] + layer["recurrent_bias"]}
    made = ReleasedWeights(params, codebook._asdict())
    return named_tensors(jax.tree.map(lambda x: np.asarray(x, np.float32), made))


def _lstms(params: dict) -> dict:
    return {name: layer for name, layer in params.items() if name.startswith("BiLSTM")}
