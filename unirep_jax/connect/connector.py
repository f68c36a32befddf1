"""The projectors of two connected spaces as plain linear maps, and the file they are kept in."""

import dataclasses
import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from unirep_jax.data.mapped import replace_file
from unirep_jax.losses import unit

FORMAT = "unirep_jax connector 1"
_EPSILON = 1e-5  # of batch normalisation


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """One space's way into the common one.

    modalities: what the space embeds. weights, biases: of each linear map, [in, out] and [out],
    with batch normalisation folded in; ReLU stands between maps and, if final_relu, after the last.
    """

    modalities: tuple[str, ...]
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    final_relu: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Connector:
    """Two contrastive spaces connected: "first" and "second"."""

    spaces: dict[str, Space]

    @classmethod
    def of_method(cls, method: Any, params: dict, state: dict) -> "Connector":
        """What a trained `methods.CMCR` has learned; modalities lose the number of their stream."""
        spaces = {}
        for name, streams in method.streams.items():
            maps = _linear_maps(params[name], state["batch_stats"][name])
            modalities = tuple(m.removesuffix("_1").removesuffix("_2") for m in streams)
            spaces[name] = Space(modalities, *maps, method.final_relu)
        return cls(spaces)

    def project(
        self,
        space: str,
        modality: str,
        embeddings: Float[np.ndarray, "row in"],
        *,
        batch_size: int = 65536,
    ) -> Float[np.ndarray, "row dim"]:
        """Unit vectors in the common space, float32; a zero row stays zero.

        Args:
          space: "first" or "second".
          modality: of that space.
          embeddings: as the space's encoder gives them, of any length; possibly memory-mapped.
          batch_size: rows on the device at a time.

        Raises:
          ValueError: there is no such space or modality, the embeddings are not [row, in] of that
            space, or one of them is not finite.
        """
        chosen = self._space(space, modality)
        width = chosen.weights[0].shape[0]
        if embeddings.ndim != 2 or embeddings.shape[1] != width or not len(embeddings):
            raise ValueError(
                f"{space} {modality}: embeddings must be [row, {width}], got {embeddings.shape}"
            )
        weights, biases = (jax.tree.map(jnp.asarray, x) for x in (chosen.weights, chosen.biases))
        parts = []
        for start in range(0, len(embeddings), batch_size):
            part = np.asarray(embeddings[start : start + batch_size], np.float32)
            if not (finite := np.isfinite(part).all(1)).all():
                raise ValueError(f"{space} {modality}: row {start + finite.argmin()} is not finite")
            parts.append(np.asarray(_project(weights, biases, part, chosen.final_relu)))
        return np.concatenate(parts)

    def _space(self, space: str, modality: str) -> Space:
        if space not in self.spaces:
            raise ValueError(f"space {space!r} is none of {', '.join(self.spaces)}")
        if modality not in self.spaces[space].modalities:
            known = ", ".join(self.spaces[space].modalities)
            raise ValueError(f"modality {modality!r} is none of {known}, which {space} embeds")
        return self.spaces[space]

    def save(self, path: Path) -> None:
        """Writes a safetensors file: tensors SPACE/PLACE/weight and SPACE/PLACE/bias."""
        from safetensors.numpy import save

        tensors, about = {}, {}
        for name, space in self.spaces.items():
            about[name] = {"modalities": space.modalities, "final_relu": space.final_relu}
            for place, maps in enumerate(zip(space.weights, space.biases, strict=True)):
                for kind, array in zip(("weight", "bias"), maps, strict=True):
                    tensors[f"{name}/{place}/{kind}"] = np.ascontiguousarray(array, np.float32)
        content = save(tensors, {"format": FORMAT, "spaces": json.dumps(about)})
        replace_file(path, lambda stream: stream.write(content))


def load(path: str | Path) -> Connector:
    """The connector in a safetensors file that `Connector.save` wrote.

    Raises:
      ValueError: it is not such a file, naming what is wrong.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not Path(path).is_file():
            raise FileNotFoundError("no file")
        with safe_open(str(path), framework="numpy") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
    if about.get("format") != FORMAT:
        raise ValueError(f"{path}: format is {about.get('format')!r}, expected {FORMAT!r}")
    for name, array in tensors.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{path}: tensor {name} is not of finite float32 values")
    return Connector(
        {
            name: _read_space(path, name, known, tensors)
            for name, known in _read_spaces(path, about.get("spaces", "")).items()
        }
    )


def _read_spaces(path: str | Path, text: str) -> dict[str, dict[str, Any]]:
    """What the file says of every space: its modalities, and whether ReLU stands at the end."""
    try:
        spaces = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: spaces: {type(error).__name__}: {error}") from error
    for name, known in spaces.items():
        modalities = known.get("modalities") if isinstance(known, dict) else None
        named = isinstance(modalities, list) and all(isinstance(m, str) for m in modalities)
        if not named or type(known.get("final_relu")) is not bool:
            raise ValueError(f"{path}: spaces: {name!r} is {known!s:.80}")
    return spaces


def _read_space(path, name: str, known: dict, tensors: dict[str, np.ndarray]) -> Space:
    count = sum(key.startswith(f"{name}/") and key.endswith("/weight") for key in tensors)
    try:
        weights = [tensors[f"{name}/{place}/weight"] for place in range(count)]
        biases = [tensors[f"{name}/{place}/bias"] for place in range(count)]
    except KeyError as error:
        raise ValueError(f"{path}: tensor {error} is missing") from error
    widths = [w.shape for w in weights]
    fits = all(len(w) == 2 for w in widths)
    fits = fits and all(a[1] == b[0] for a, b in itertools.pairwise(widths))
    if not count or not fits or any(b.shape != w[1:] for b, w in zip(biases, widths, strict=True)):
        raise ValueError(f"{path}: the maps of {name} do not follow one another: {widths}")
    return Space(tuple(known["modalities"]), tuple(weights), tuple(biases), known["final_relu"])


def _linear_maps(params: dict, running: dict) -> tuple[tuple, tuple]:
    """The linear maps of a `Projector` in use, each with its batch normalisation, in order."""
    weights, biases = [], []
    for place in range(len(running)):
        dense, norm, known = (
            {k: np.asarray(v, np.float64) for k, v in tree.items()}
            for tree in (
                params[f"Dense_{place}"],
                params[f"BatchNorm_{place}"],
                running[f"BatchNorm_{place}"],
            )
        )
        scale = norm["scale"] / np.sqrt(known["var"] + _EPSILON)
        weights.append((dense["kernel"] * scale).astype(np.float32))
        biases.append(((dense["bias"] - known["mean"]) * scale + norm["bias"]).astype(np.float32))
    return tuple(weights), tuple(biases)


@partial(jax.jit, static_argnums=3)
def _project(
    weights: tuple[Array, ...], biases: tuple[Array, ...], x: Array, final_relu: bool
) -> Array:
    x = unit(x)
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = jnp.matmul(x, weight, precision="highest") + bias[None]
        if place < len(weights) - 1 or final_relu:
            x = jax.nn.relu(x)
    return unit(x)
