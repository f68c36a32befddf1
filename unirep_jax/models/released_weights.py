"""The weights of MICU and DCID under their authors' names, in a safetensors file.

A checkpoint of the authors is a pickle of state dictionaries; `python -m unirep_jax.convert` makes
such a file of it, in which tensor NAME of dictionary PART is called PART.NAME. Nothing else is
needed to read it than NumPy and safetensors.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unirep_jax.data.files import open_regular, user_path
from unirep_jax.data.published_shapes import SHAPES

ENCODER, TEXT_LSTM = "Encoder_parameters", "Text_ar_lstm_parameters"
CODES, DIM, HEADS, LAYERS = 400, 256, 4, 2
LSTM_DIM = 128  # per direction
_FEED_FORWARD = 1024
_VIDEO = SHAPES["video"][-1]
# Of training alone: modality-specific encoders; the layer of which a stack is a copy; other parts.
_UNUSED = re.compile(
    rf"{ENCODER}\.((Audio|Video|Text)_encoder\.|(audio|video|text)_self_att\.encoder_layer\.)"
    r"|(CPC|Decoder|(Audio|Video|Text)_mi_net)_parameters\."
)
_FLOATS = ("F16", "BF16", "F32", "F64")  # safetensors' names
_LARGEST = 1e38  # of a weight; some are added, and sums have to fit float32

Read = Callable[..., np.ndarray]  # (name, *shape) -> the tensor


class ReleasedWeights(NamedTuple):
    """params: by modality those of a `ReleasedEncoder`; codebook: its fields as `CodebookState`."""

    params: dict[str, dict[str, Any]]
    codebook: dict[str, np.ndarray]


def load_weights(path: str | Path) -> ReleasedWeights:
    """The weights in a file, float32.

    Raises:
      ValueError: as `check_weights`, or a weight is not finite or beyond 1e38.
    """
    check_weights(path)
    with _open(path) as file:

        def read(name: str, *shape: int) -> np.ndarray:
            tensor = np.asarray(file.get_tensor(name)).astype(np.float64)
            if not (np.abs(tensor) <= _LARGEST).all():
                raise ValueError(f"{path}: {name} is not finite, or beyond {_LARGEST:g}")
            return tensor

        return _map_arrays(lambda x: np.ascontiguousarray(x, np.float32), _arrange(read))


def check_weights(path: str | Path) -> None:
    """Reads names and shapes alone.

    Raises:
      ValueError: the file is none of safetensors, a tensor is none of floats, or as
        `check_shapes`.
    """
    with _open(path) as file:
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        kinds = {name: piece.get_dtype() for name, piece in found.items()}
        check_shapes(path, {name: tuple(piece.get_shape()) for name, piece in found.items()})
    wrong = [f"{name} is {kinds[name]}" for name in expected_shapes() if kinds[name] not in _FLOATS]
    if wrong:
        raise ValueError(f"{path}: expected {', '.join(_FLOATS)}, but {'; '.join(wrong)}")


def check_shapes(source: str | Path, found: Mapping[str, tuple[int, ...]]) -> None:
    """Whether these are the tensors of a released model, those of training alone left out or not.

    Args:
      source: what errors call them.
      found: shapes by name.

    Raises:
      ValueError: names everything that is missing, unexpected or of another shape.
    """
    expected = expected_shapes()
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected and not _UNUSED.match(name)]
    wrong = [
        f"{name}: expected {list(shape)}, found {list(found[name])}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
    if problems := problems + wrong:
        raise ValueError(f"{source}: not weights of MICU or DCID\n  " + "\n  ".join(problems))


@cache
def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Of every tensor that is read, by name."""
    shapes = {}

    def read(name: str, *shape: int) -> np.ndarray:
        shapes[name] = shape
        return np.broadcast_to(0.0, shape)

    _arrange(read)
    return shapes


def named_tensors(weights: ReleasedWeights) -> dict[str, np.ndarray]:
    """The tensors, float32, of which `load_weights` makes these weights.

    Every entry is followed through `_arrange` by its number. Two biases become one there; of the
    two the second is 0.

    Raises:
      ValueError: the weights have other parts or shapes.
    """
    sizes = {name: int(np.prod(shape)) for name, shape in expected_shapes().items()}
    first = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))

    def number(name: str, *shape: int) -> np.ndarray:
        if ".bias_hh_" in name:
            return np.zeros(shape)
        return (first[name] + np.arange(sizes[name])).reshape(shape).astype(np.float64)

    places = _leaves(_arrange(number))
    values = _leaves(weights)
    shapes, expected = ({n: np.shape(x) for n, x in t.items()} for t in (values, places))
    if wrong := [n for n in expected.keys() | shapes.keys() if expected.get(n) != shapes.get(n)]:
        raise ValueError(f"not weights of MICU or DCID: {', '.join(sorted(wrong))}")
    flat = np.zeros(sum(sizes.values()), np.float32)
    for name, place in places.items():
        flat[place.astype(np.int64).ravel()] = np.ravel(values[name])
    return {
        name: flat[first[name] : first[name] + sizes[name]].reshape(shape)
        for name, shape in expected_shapes().items()
    }


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Arrays by their place in the tree."""
    if isinstance(tree, ReleasedWeights):
        tree = tree._asdict()
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, sub in tree.items() for k, v in _leaves(sub, f"{prefix}/{name}").items()}


def _open(path: str | Path) -> Any:
    from safetensors import SafetensorError, safe_open

    path = user_path(path)
    try:
        open_regular(path).close()  # a pipe would never end
        return safe_open(str(path), framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error


def _map_arrays(function: Callable, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map_arrays(function, value) for key, value in tree.items()}
    if isinstance(tree, ReleasedWeights):
        return ReleasedWeights(*(_map_arrays(function, value) for value in tree))
    return function(tree)


# -- the authors' names on the left, Flax's on the right -------------------------------------------


def _arrange(read: Read) -> ReleasedWeights:
    """Everything, each tensor read once."""
    inputs = {"audio": SHAPES["audio"][-1], "video": _VIDEO, "text": 2 * LSTM_DIM}
    params = {m: {"Encoder_0": _temporal(read, m, width)} for m, width in inputs.items()}
    params["video"]["Encoder_0"]["AttentionPool_0"] = _attention_pool(read)
    for layer, width in enumerate((SHAPES["text"][-1], 2 * LSTM_DIM)):
        params["text"][f"BiLSTM_{layer}"] = _lstm(read, layer, width)
    quantizer = f"{ENCODER}.Cross_quantizer"
    codebook = {
        "codebook": read(f"{quantizer}.embedding", CODES, DIM),
        "count": read(f"{quantizer}.ema_count", CODES),
        "weight": read(f"{quantizer}.ema_weight", CODES, DIM),
        "age": read(f"{quantizer}.unactivated_count", CODES),
    }
    return ReleasedWeights(params, codebook)


def _temporal(read: Read, modality: str, width: int) -> dict:
    """A linear map and the layers over time."""
    name = f"{ENCODER}.{modality}_self_att"
    blocks = {
        f"TransformerBlock_{layer}": _block(read, f"{name}.encoder.layers.{layer}")
        for layer in range(LAYERS)
    }
    return {"Dense_0": _dense(read, f"{name}.affine_matrix", width, DIM), **blocks}


def _block(read: Read, name: str) -> dict:
    return {
        "MultiHeadDotProductAttention_0": _attention(read, f"{name}.self_attn"),
        "LayerNorm_0": _norm(read, f"{name}.norm1"),
        "Dense_0": _dense(read, f"{name}.linear1", DIM, _FEED_FORWARD),
        "Dense_1": _dense(read, f"{name}.linear2", _FEED_FORWARD, DIM),
        "LayerNorm_1": _norm(read, f"{name}.norm2"),
    }


def _attention(read: Read, name: str) -> dict:
    """Queries, keys and values are rows of one matrix there, heads an axis of their own here."""
    weight = read(f"{name}.in_proj_weight", 3 * DIM, DIM).reshape(3, HEADS, DIM // HEADS, DIM)
    bias = read(f"{name}.in_proj_bias", 3 * DIM).reshape(3, HEADS, DIM // HEADS)
    params = {
        kind: {"kernel": np.moveaxis(weight[place], -1, 0), "bias": bias[place]}
        for place, kind in enumerate(("query", "key", "value"))
    }
    out = _dense(read, f"{name}.out_proj", DIM, DIM)
    kernel = out["kernel"].reshape(HEADS, DIM // HEADS, DIM)
    return {**params, "out": out | {"kernel": kernel}}


def _attention_pool(read: Read) -> dict:
    name, squeezed, hidden = f"{ENCODER}.video_semantic_encoder", _VIDEO // 8, _VIDEO // 2
    return {
        "Dense_0": _dense(read, f"{name}.se_layer.0", _VIDEO, squeezed, bias=False),
        "Dense_1": _dense(read, f"{name}.se_layer.2", squeezed, _VIDEO, bias=False),
        "Dense_2": _dense(read, f"{name}.affine_video_ave", _VIDEO, hidden),
        "Dense_3": _dense(read, f"{name}.affine_video_self", _VIDEO, hidden),
        "Dense_4": _dense(read, f"{name}.ave_v_att", hidden, 1),
    }


def _lstm(read: Read, layer: int, width: int) -> dict:
    """Both directions; gates in the same order here and there, two biases there and one here."""
    gates, directions = 4 * LSTM_DIM, {"kernel": [], "recurrent": [], "bias": []}
    for direction in ("", "_reverse"):
        end = f"l{layer}{direction}"
        kernel = read(f"{TEXT_LSTM}.weight_ih_{end}", gates, width)
        recurrent = read(f"{TEXT_LSTM}.weight_hh_{end}", gates, LSTM_DIM)
        biases = [read(f"{TEXT_LSTM}.bias_{side}_{end}", gates) for side in ("ih", "hh")]
        for kind, array in zip(directions, (kernel.T, recurrent.T, sum(biases)), strict=True):
            directions[kind].append(array)
    return {kind: np.stack(arrays) for kind, arrays in directions.items()}


def _dense(read: Read, name: str, inputs: int, outputs: int, *, bias: bool = True) -> dict:
    params = {"kernel": read(f"{name}.weight", outputs, inputs).T}
    return params | ({"bias": read(f"{name}.bias", outputs)} if bias else {})


def _norm(read: Read, name: str) -> dict:
    return {"scale": read(f"{name}.weight", DIM), "bias": read(f"{name}.bias", DIM)}
