"""The network of all out-of-modal methods: a learner from scratch and a linear head on it.

Batches are of pools: "labelled" (all modalities and the label), "unlabelled" (the out-of-modal
modality alone), "in_modal" (the others, with label). A pool that the protocol leaves empty is not
there.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses
from unirep_jax.data.features import Archive
from unirep_jax.losses import cross_entropy
from unirep_jax.methods.batch import example_keys, standardize
from unirep_jax.methods.method import (
    Batches,
    ClassifyingMethod,
    Decision,
    Embedding,
    RepresentationMethod,
    TrainedMethod,
)
from unirep_jax.models.augmentation import augment
from unirep_jax.models.initial import initialize
from unirep_jax.models.learner import Learner

POOLS = ("labelled", "unlabelled", "in_modal")
Terms = dict[str, tuple[float | Array, Float[Array, ""]]]  # by name: weight, value


@dataclasses.dataclass(frozen=True)
class OutOfModalLearner(ClassifyingMethod, RepresentationMethod, TrainedMethod):
    """The network, its readout, and the hyper-parameters that all methods have; no loss of its own.

    modality: the out-of-modal one; "": the first of the data, where the protocol puts it.
    learner_init: .npz file of the learner's first parameters, as `learner_arrays` names them; "":
      drawn by the seed.
    """

    batches: ClassVar[Batches] = Batches.POOLED

    modality: str = ""
    classes: int = 0
    learner_init: str = ""

    dim: int = 128
    network: str = "convolution"  # or "vision_transformer"
    width: int = 128
    layers: int = 2
    dropout: float = 0.0
    heads: int = 3  # of a vision transformer, as is the patch
    patch: tuple[int, int] = (16, 16)

    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method for these data, of which `modality` is out of modal.

        Raises:
          ValueError: no such modality.
        """
        modality = self.modality or next(iter(shapes))
        if modality not in shapes:
            raise ValueError(f"modality {modality!r} is none of {', '.join(shapes)}")
        return dataclasses.replace(self, modality=modality, classes=classes)

    def learner(self) -> Learner:
        return Learner(
            self.dim, self.network, self.width, self.layers, self.dropout, self.heads, self.patch
        )

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """Parameters, and the state that no gradient changes: feature statistics, steps made."""
        example = jnp.zeros(shapes[self.modality])
        learner = initialize(self.learner(), key, example, train=False)["params"]
        params = {
            "learner": read_learner(self.learner_init, learner) if self.learner_init else learner,
            "head": linear_head(jax.random.fold_in(key, 1), self.dim, self.classes),
        }
        return params, {"statistics": jax.tree.map(jnp.asarray, statistics), "step": jnp.int32(0)}

    # -- loss --------------------------------------------------------------------------------

    def loss(
        self,
        params: dict,
        state: dict,
        batch: dict,
        *,
        key: Key[Array, ""],
        axis_name: str | None = None,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Float[Array, ""]]]]:
        """Weighted sum of the terms on this device's share of the pools; new state; the terms."""
        terms, state, shown = self.terms(params, state, batch, key, axis_name)
        loss = sum((weight * value for weight, value in terms.values()), jnp.float32(0))
        values = {name: value for name, (_, value) in terms.items()}
        return loss, (state | {"step": state["step"] + 1}, values | shown)

    def terms(self, params, state, batch, key, axis_name) -> tuple[Terms, dict, dict]:
        """The terms of the loss, the new state but for the step, and what else is logged."""
        raise NotImplementedError

    def inputs(self, state: dict, pool: dict) -> Float[Array, "batch ..."]:
        """The out-of-modal features of a pool, standardised."""
        m = self.modality
        return standardize({m: pool["features"][m]}, state["statistics"])[m]

    def encode(
        self, params: dict, x: Float[Array, "batch ..."], keys: dict, *, strength: float = 1.0
    ) -> Float[Array, "batch dim"]:
        """Features in training: augmented, `strength` times as much as usual, and with dropout."""
        return self.apply(params, self.augmented(x, keys["augment"], strength), keys["dropout"])

    def augmented(self, x, keys, strength: float = 1.0) -> Float[Array, "batch ..."]:
        settings = {
            "noise": strength * self.noise,
            "gain": strength * self.gain,
            "warp": min(strength * self.warp, 0.45),
        }
        return jax.vmap(lambda x, key: augment({"x": x}, key, **settings)["x"])(x, keys)

    def apply(self, params, x, keys=None, **part) -> Float[Array, "batch ..."]:
        """The learner, or a `method` of it at a `depth`, of every example; keys: in training."""
        learner, variables = self.learner(), {"params": params["learner"]}
        if keys is None:
            return jax.vmap(partial(learner.apply, variables, train=False, **part))(x)

        def one(x, key):
            return learner.apply(variables, x, train=True, rngs={"dropout": key}, **part)

        return jax.vmap(one)(x, keys)

    def classification(self, params, z, pool, axis_name) -> Float[Array, ""]:
        """Mean cross-entropy of the head on the labelled examples."""
        where = pool["present"][self.modality]
        loss = cross_entropy(linear(params["head"], z), pool["label"])
        return losses.masked_mean(loss, where, axis_name=axis_name)

    # -- readout -----------------------------------------------------------------------------

    def explores_from(self) -> int:
        """The step at which exploration begins: from the start, where there is no such phase."""
        return 0

    def classify(
        self,
        params: dict,
        state: dict,
        features: Mapping[str, Float[Array, "batch ..."]],
        present: Mapping[str, Bool[Array, "batch"]],
    ) -> dict[str, Decision]:
        """The decision of the out-of-modal modality, without dropout or augmentation."""
        z = self.apply(params, self.inputs(state, {"features": features}))
        decision = Decision(linear(params["head"], z), z, present[self.modality])
        return {self.modality: decision}

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """The learner's features of the out-of-modal modality, scaled to length 1.

        Raises:
          ValueError: of any other modality.
        """
        if modality != self.modality:
            raise ValueError(
                f"modality {modality!r} is not {self.modality!r}, the out-of-modal one"
            )
        z = self.apply(params, self.inputs(state, {"features": {modality: features}}))
        return Embedding(z[:, None], losses.unit(z))


def pool_keys(key: Key[Array, ""], name: str, pool: dict, axis_name: str | None, purposes=()):
    """A key for each example of a pool and each purpose, augmentation and dropout at least."""
    count = len(next(iter(pool["present"].values())))
    key = jax.random.fold_in(key, POOLS.index(name))
    return example_keys(key, count, ("augment", "dropout", *purposes), axis_name)


def linear_head(key: Key[Array, ""], inputs: int, outputs: int) -> dict[str, Array]:
    """First parameters of a linear classifier."""
    return nn.Dense(outputs).init(key, jnp.zeros(inputs))["params"]


def linear(head: dict[str, Array], x: Float[Array, "*lead dim"]) -> Float[Array, "*lead class"]:
    return x @ head["kernel"] + head["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def learner_arrays(params: dict) -> dict[str, np.ndarray]:
    """Parameters of a learner by the names that `learner_init` has in its file: their paths."""
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    return {"/".join(str(k.key) for k in path): np.asarray(leaf) for path, leaf in flat}


def read_learner(path: str | Path, like: dict) -> dict:
    """Parameters of a learner from an .npz file.

    Raises:
      ValueError: the file is damaged, or an array is missing, too many, or of another shape.
    """
    expected = learner_arrays(like)
    with Archive(path) as archive:
        found = {name: archive.read(name, "float") for name in archive.keys}
    for name in sorted(expected.keys() | found.keys()):
        here, there = (a[name].shape if name in a else "none" for a in (expected, found))
        if here != there:
            raise ValueError(f"learner_init={str(path)!r}: {name} is {there}, expected {here}")
    leaves = [jnp.asarray(found[name], jnp.float32) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
