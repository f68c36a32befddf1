"""Models in folders: `model.json` and `weights.safetensors`, checked by hash."""

import hashlib
import json
import typing
from pathlib import Path

import jax
import numpy as np

from unirep_jax import __version__, losses
from unirep_jax.data.files import read_bytes, read_text, user_path
from unirep_jax.data.limits import MAX_CLASSES, MAX_NAME, memory
from unirep_jax.data.mapped import replace_file
from unirep_jax.data.safe_text import safe_text
from unirep_jax.methods import METHODS
from unirep_jax.methods.emergent import Anchors, Centroids
from unirep_jax.model import Model, Way

FORMAT = "unirep_jax model 1"
FOLDER = "model"  # in that of a run
STATES = (losses.CodebookState, losses.AdaptiveThresholds, Anchors, Centroids)
"""What a state may hold besides dictionaries and arrays."""
_LARGEST_DESCRIPTION = 1 << 24  # bytes of model.json
_LETTERS = 1_000  # of what is said of a damaged file


class ModelFileError(ValueError):
    """A folder that holds no whole model: says which file, and what is wrong."""


def save_model(model: Model, folder: Path) -> None:
    """Writes the model; the description last, so that a folder with one is whole."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    encoders: dict[int, str] = {}
    ways: dict[str, list] = {}
    for modality, through in model.ways.items():
        ways[modality] = []
        for way in through:
            name = None
            if way.encoder is not None:
                name = encoders.setdefault(id(way.encoder), f"encoder_{len(encoders)}")
                save_model(way.encoder, folder / name)
            ways[modality].append([name, way.stream])
    tensors: dict[str, np.ndarray] = {}
    tree = _describe({"params": model.params, "state": model.state}, "", tensors)
    content = save(tensors, {"format": FORMAT})
    replace_file(folder / "weights.safetensors", lambda stream: stream.write(content))
    description = {
        "format": FORMAT,
        "unirep_jax": __version__,
        "sha256": hashlib.sha256(content).hexdigest(),
        "name": model.name,
        "method": model.method.settings(),
        "shapes": model.shapes,
        "streams": model.streams,
        "ways": ways,
        "class_names": model.class_names,
        "tree": tree,
    }
    text = json.dumps(description, indent=1) + "\n"
    replace_file(folder / "model.json", lambda stream: stream.write(text.encode()))


def load_model(folder: str | Path) -> Model:
    """The model that `save_model` wrote.

    Raises:
      ModelFileError: a file is missing, damaged, or of another program.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = user_path(folder)
    path = folder / "model.json"
    damage = (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        SafetensorError,
    )
    try:
        description = json.loads(read_text(path, _LARGEST_DESCRIPTION))
        if description["format"] != FORMAT:
            raise ValueError(f"format is {description['format']!r}, expected {FORMAT!r}")
        path = folder / "weights.safetensors"
        content = read_bytes(path, memory())
        if hashlib.sha256(content).hexdigest() != description["sha256"]:
            raise ValueError("the sha256 differs from that in model.json")
        tensors = load(content)
        path = folder / "model.json"
        tree = _build(description["tree"], tensors)
        if not isinstance(tree["params"], dict) or not isinstance(tree["state"], dict):
            raise ValueError("parameters and state are no dictionaries")
        method = METHODS[description["name"]]
        settings = _typed(method, description["method"])
        ways = {
            m: tuple(_way(folder, *way) for way in through)
            for m, through in description["ways"].items()
        }
        return Model(
            description["name"],
            method(**settings),
            tree["params"],
            tree["state"],
            _shapes(description["shapes"]),
            _shapes(description["streams"]),
            ways,
            _names(description["class_names"]),
        )
    except ModelFileError:
        raise
    except damage as error:
        reason = safe_text((str(error).splitlines() or [""])[0][:_LETTERS])
        raise ModelFileError(f"{path}: no model: {type(error).__name__}: {reason}") from error


def load_run(folder: str | Path) -> Model:
    """The trained model of a run: of its folder, or of a folder that `unirep_jax.export` made.

        model = unirep_jax.load_run("runs/oscmg-digits_avt-micu-seed0-...")
        vectors = model.embed("audio", features)  # [example, ...] to NumPy [example, dim]

    Standardisation, frozen encoders and batches are inside. Neither TensorFlow nor Orbax is needed.

    Raises:
      ModelFileError: there is no model, it is damaged, or of another program.
    """
    folder = user_path(folder)
    place = _place_of_model(folder)
    if not (place / "model.json").exists():
        unfinished = (folder / "config.json").exists()
        reason = "the run has not finished training" if unfinished else "no folder of a run"
        raise ModelFileError(f"{folder}: no model.json in it or in {FOLDER}/: {reason}")
    return load_model(place)


def _place_of_model(folder: Path) -> Path:
    """An exported folder itself; of a run, the one that is in it."""
    return folder if (folder / "model.json").exists() else folder / FOLDER


def weights_hash(folder: str | Path) -> str:
    """The sha256 of the weights of what `load_run` reads. Raises: ModelFileError, as it does."""
    path = _place_of_model(user_path(folder)) / "model.json"
    try:
        return str(json.loads(read_text(path, _LARGEST_DESCRIPTION))["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path}: {type(error).__name__}: {error}"[:_LETTERS]) from error


def _way(folder: Path, encoder: str | None, stream: str) -> Way:
    if encoder is None:
        return Way(None, stream)
    if Path(encoder).name != encoder or encoder in ("", ".."):
        raise ValueError(f"encoder {encoder!r} is not in the folder")
    return Way(load_model(folder / encoder), stream)


def _shapes(given: dict) -> dict[str, tuple[int, ...]]:
    for modality, shape in given.items():
        if any(type(length) is not int or length < 1 for length in shape):
            raise ValueError(f"{modality}: shape {shape!r:.80}")
    return {modality: tuple(shape) for modality, shape in given.items()}


def _names(given: list) -> tuple[str, ...]:
    if len(given) > MAX_CLASSES or any(len(name) > MAX_NAME for name in given):
        raise ValueError(
            f"class_names: more than {MAX_CLASSES}, or of more than {MAX_NAME} letters"
        )
    return tuple(map(safe_text, given))


def _describe(tree, path: str, tensors: dict[str, np.ndarray]):
    """The tree with the names of tensors in place of arrays; those are put into `tensors`."""
    if isinstance(tree, dict):
        return {key: _describe(tree[key], f"{path}/{key}", tensors) for key in sorted(tree)}
    if isinstance(tree, STATES):
        fields = _describe(tree._asdict(), path, tensors)
        return {"state type": type(tree).__name__, "fields": fields}
    if isinstance(tree, tuple):
        return [_describe(x, f"{path}/{place}", tensors) for place, x in enumerate(tree)]
    tensors[path] = np.asarray(jax.device_get(tree), order="C")
    return path


def _build(tree, tensors: dict[str, np.ndarray]):
    if isinstance(tree, str):
        return tensors[tree]
    if isinstance(tree, list):
        return tuple(_build(x, tensors) for x in tree)
    if "state type" in tree:
        kinds = {kind.__name__: kind for kind in STATES}
        return kinds[tree["state type"]](**_build(tree["fields"], tensors))
    return {key: _build(value, tensors) for key, value in tree.items()}


def _typed(method: type, settings: dict) -> dict:
    """Settings out of JSON: what the method declares as a tuple is one again."""
    known = typing.get_type_hints(method)
    return {
        name: _tuple(value) if typing.get_origin(known.get(name)) is tuple else value
        for name, value in settings.items()
    }


def _tuple(value):
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
