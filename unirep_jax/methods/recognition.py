"""MRN and the classifiers that it is compared with: encoders → fusion → head → score.

MRN ("Towards Multimodal Open Set Recognition", 2024) lets every modality's tokens ask for what
matters in the others (eq. 1) and gives what comes of it to a mixture of experts (eq. 2). It trains

    L = −log softmax(f)[y] + λ (CV²(importance) + CV²(load))                            (eq. 3)

with the load of appendix B.3 (eq. 5, 6). An example is rejected as unknown where its score, max
softmax(f), is below a threshold (eq. 4). `methods.recognizers` has all rows by name,
`methods.recognition_heads` the heads.

What the paper leaves open, and what is taken: tokens, not vectors, are fused (to a single key
attention is a linear map); λ = 0.01; experts emit logits, or the embedding that another head takes.
A modality that an example lacks is left out of its fusion.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses
from unirep_jax.data.features import FeatureSet
from unirep_jax.data.words import UNKNOWN
from unirep_jax.methods import ensemble
from unirep_jax.methods.batch import Shapes, example_keys, shapes_of, standardize
from unirep_jax.methods.kinds import kinds_of, vocabularies
from unirep_jax.methods.method import Batches, ClassifyingMethod, Decision, TrainedMethod
from unirep_jax.methods.recognition_heads import (
    ATTENTIVE,
    HEADS,
    JOINT,
    Head,
    HeadSettings,
    Targets,
    ranking,
)
from unirep_jax.models.augmentation import augment
from unirep_jax.models.initial import initialize
from unirep_jax.models.recognizer import Outputs, Recognizer, kinds_of_shapes, reader

FUSIONS = ("late", "late_shared", *JOINT)
ARCHITECTURE = (  # settings of the `Recognizer`
    "fusion",
    "modality",
    "width",
    "tokens",
    "layers",
    "dropout",
    "images",
    "heads",
    "kv_heads",
    "residual",
    "pairs",
    "experts",
    "count",
    "hidden",
    "gate_noise",
    "vocabulary",
    "kinds",
)


@dataclasses.dataclass(frozen=True)
class OpenSetClassifier(HeadSettings, ClassifyingMethod, TrainedMethod):
    """Hyper-parameters (MRN's where the paper states them) and the functions made of them."""

    batches: ClassVar[Batches] = Batches.LABELLED

    fusion: str = "cross_attention"
    head: str = "softmax"
    modality: str = ""  # of fusion "single"

    tokens: int = 4  # that a plain vector is made of
    layers: int = 2
    dropout: float = 0.0
    images: tuple[int, ...] = (3, 4, 6, 3)  # stages of the ResNet
    kinds: tuple[tuple[str, str], ...] = ()  # (modality, kind) where it is not that of the data
    vocabulary: tuple[tuple[str, int], ...] = ()  # (modality, word ids), if not all of the data's

    heads: int = 8
    kv_heads: int = 2  # of fusion "gqa"
    residual: bool = False
    pairs: tuple[tuple[str, str], ...] = ()  # (query, key) that attend, of fusion; (): all

    experts: int = 15  # 0: none
    count: int = 4
    hidden: int = 512
    weight_balance: float = 0.01
    gate_noise: bool = True  # in training; without it the load has no gradient
    members: int = 1  # of a deep ensemble
    matched: int = 0  # without experts: the hidden layer has the parameters of so many of them

    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, allowed in (("fusion", FUSIONS), ("head", HEADS)):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is none of {(*allowed,)}")
        if self.fusion not in self._head.fusions:
            raise ValueError(f"head={self.head!r} does not go with fusion={self.fusion!r}")
        if self.score not in ("", *self._head.scores):
            known = ", ".join(self._head.scores)
            raise ValueError(f"score={self.score!r}: head={self.head!r} has {known}")
        if self.score == "ash" and (self.experts or not self.hidden):
            raise ValueError("score='ash' needs experts=0 and a hidden layer")
        if self.members > 1 and (self.head, self.score or "max_softmax") != (
            "softmax",
            "max_softmax",
        ):
            raise ValueError("members > 1 needs head='softmax' and its max_softmax")
        if self.matched and (self.experts or not self.hidden or self.fusion not in JOINT):
            raise ValueError("matched needs experts=0, a hidden layer and a fusion to one vector")
        if self.experts and not 1 <= self.count <= self.experts:
            raise ValueError(f"count={self.count} is not between 1 and experts={self.experts}")

    @property
    def _head(self) -> Head:
        return HEADS[self.head]

    @property
    def _member(self) -> Self:
        return dataclasses.replace(self, members=1)

    # -- data --------------------------------------------------------------------------------

    def for_features(self, feature_set: FeatureSet) -> Self:
        """The method for a feature set, whose kinds of modalities choose the encoders.

        A vocabulary has the largest word id of the training examples; what is above it later is a
        word that training has not seen.

        Raises:
          ValueError: as `for_data`; `kinds` names one that the features cannot be of, `vocabulary`
            a modality that is not made of words.
        """
        kinds = kinds_of(feature_set, self.kinds)
        sizes = vocabularies(feature_set, kinds, self.vocabulary)
        method = dataclasses.replace(
            self,
            kinds=tuple((m, kind.value) for m, kind in kinds.items()),
            vocabulary=tuple(sizes.items()),
        )
        shapes = {m: x.shape[1:] for m, x in feature_set.features.items()}
        return method.for_data(shapes, feature_set.num_classes)

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method for these modalities and known classes.

        Raises:
          ValueError: `modality`, `pairs`, `kinds` or `vocabulary` name one that is not there.
        """
        named = [*dict(self.kinds), *dict(self.vocabulary), *(m for p in self.pairs for m in p)]
        named += [self.modality] if self.fusion == "single" else []
        for m in named:
            if m not in shapes:
                raise ValueError(f"modality {m!r} is none of {', '.join(shapes)}")
        if self.fusion in ATTENTIVE and len(shapes) < 2:
            raise ValueError(f"fusion={self.fusion!r} needs two modalities")
        kinds = kinds_of_shapes(shapes, words=dict(self.vocabulary)) | dict(self.kinds)
        method = dataclasses.replace(self, classes=classes, kinds=tuple(kinds.items()))
        return method._with_parameters_of_experts(shapes) if self.matched else method

    def _with_parameters_of_experts(self, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """Of one hidden layer, as wide as gives the parameters of MRN with `matched` experts.

        The control of a mixture of experts: what it does beyond having more parameters.
        """
        mrn = dataclasses.replace(
            self, fusion="cross_attention", experts=self.matched, count=1, matched=0
        )
        target = mrn._parameters(shapes)
        one, two = (
            dataclasses.replace(self, hidden=h, matched=0)._parameters(shapes) for h in (1, 2)
        )
        hidden = 1 + round((target - one) / (two - one))  # they grow linearly with the width
        return dataclasses.replace(self, hidden=max(hidden, 1), matched=0)

    def _parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        params, _ = jax.eval_shape(lambda: self.init(jax.random.key(0), shapes, {}))
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    def encoders(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        return {m: reader(kind, shapes[m]).title for m, kind in self.kinds}

    # -- modules -----------------------------------------------------------------------------

    def network(self, shapes: Shapes, axis_name: str | None = None) -> Recognizer:
        return Recognizer(
            shapes=shapes,
            outputs=self.embedding if self._head.embeds else self.classes,
            axes=("example",) if axis_name is None else ("example", axis_name),
            **{name: getattr(self, name) for name in ARCHITECTURE},
        )

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """Parameters, and the state that no gradient changes."""
        if self.members > 1:
            return ensemble.init(self._member, self.members, key, shapes, statistics)
        example = {m: jnp.zeros(shape) for m, shape in shapes.items()}
        present = {m: jnp.bool_(True) for m in shapes}
        network = self.network(tuple(shapes.items()))
        variables = initialize(network, key, example, present, None, train=False)
        params = {"network": variables["params"]}
        if head := self._head.init(self, jax.random.fold_in(key, 1)):
            params["head"] = head
        state = {
            "statistics": jax.tree.map(jnp.asarray, statistics),
            "step": jnp.int32(0),
            "batch_stats": variables.get("batch_stats", {}),
        }
        return params, state | self._head.start(self)

    def inputs(self, features, statistics):
        """Standardised features; word ids, of which those that training has not seen are one."""
        inputs = standardize(features, statistics)
        for m, size in self.vocabulary:
            ids = features[m].astype(jnp.int32)
            inputs[m] = jnp.where(ids < size, ids, UNKNOWN)
        return inputs

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
        """The head's loss on this device's share of the batch; the new state; the terms to log.

        The batch has `label` [batch], in [0, classes).
        """
        if self.members > 1:
            return ensemble.loss(self._member, params, state, batch, key=key, axis_name=axis_name)
        keys = example_keys(
            key, batch["label"].shape[0], ("augment", "dropout", "gates"), axis_name
        )
        inputs = self.inputs(batch["features"], state["statistics"])
        network = self.network(shapes_of(inputs), axis_name)
        weights = self._head.weights(state, params["network"])
        variables = {"params": weights, "batch_stats": state["batch_stats"]}
        outputs, updated = self._outputs(network, variables, inputs, batch["present"], keys)

        there = _there(batch["present"])
        targets = Targets(batch["label"], there, self._where(batch["present"]), state, axis_name)
        head = params.get("head", {})
        terms = {}
        terms["classification"], changed = self._head.loss(self, head, outputs, targets)
        loss = terms["classification"]
        if outputs.gates is not None:
            terms["balance"] = losses.load_balance_loss(
                *outputs.gates, where=targets.where, axis_name=axis_name
            )
            loss += self.weight_balance * terms["balance"]
        if self._head.mixes:
            apply = lambda z, k: network.apply({"params": weights}, z, k, method="head")[0]
            terms["open"] = ranking(apply, outputs, targets, key, keys["gates"])
            loss += self.weight_open * terms["open"]
        after = {"step": state["step"] + 1, "batch_stats": updated.get("batch_stats", {})}
        return loss, (state | after | changed, terms)

    def _outputs(self, network, variables, inputs, present, keys):
        """Of the batch, augmented and with dropout; the updated batch statistics."""
        words = dict(self.vocabulary)

        def one(x, there, augment_key, dropout_key, gate_key):
            plain = {m: v for m, v in x.items() if m not in words}
            x = x | augment(plain, augment_key, noise=self.noise, gain=self.gain, warp=self.warp)
            rngs = {"dropout": dropout_key}
            return network.apply(
                variables, x, there, gate_key, train=True, mutable=["batch_stats"], rngs=rngs
            )

        mapped = jax.vmap(one, out_axes=(0, None), axis_name="example")
        return mapped(inputs, present, *keys.values())

    def _where(self, present) -> Array:
        """Examples that have something to be classified by."""
        if self.fusion == "single":
            return present[self.modality]
        return _there(present).any(0)

    # -- readout -----------------------------------------------------------------------------

    def classify(
        self,
        params: dict,
        state: dict,
        features: Mapping[str, Float[Array, "batch ..."]],
        present: Mapping[str, Bool[Array, "batch"]],
    ) -> dict[str, Decision]:
        """Decisions of the trained network, without noise, dropout or augmentation.

        One source, but for fusion "late" with softmax, where every modality decides alone.
        """
        if self.members > 1:
            return ensemble.classify(self._member, params, state, features, present)
        inputs = self.inputs(features, state["statistics"])
        network = self.network(shapes_of(inputs))
        variables = {"params": params["network"], "batch_stats": state["batch_stats"]}
        apply = lambda x, there: network.apply(variables, x, there, None, train=False)
        outputs = jax.vmap(apply)(inputs, present)
        if self.fusion == "late" and self.head == "softmax":
            parts = [jax.tree.map(lambda a, i=i: a[:, i], outputs) for i in range(len(inputs))]
            return {
                m: self._decision(params, part, {m: present[m]})
                for m, part in zip(sorted(inputs), parts, strict=True)
            }
        source = self.modality if self.fusion == "single" else "+".join(sorted(inputs))
        return {source: self._decision(params, outputs, present)}

    def _decision(self, params, outputs: Outputs, present) -> Decision:
        read = self._head.read(self, params.get("head", {}), outputs, _there(present))
        gates = None if outputs.gates is None else outputs.gates.gates
        features = read.features.reshape(len(read.features), -1)
        return Decision(read.logits, features, self._where(present), read.values, gates)

    def known_scores(self, params: dict, decision: Decision) -> Float[np.ndarray, "example"]:
        """How known each example looks, float64, higher = more known, by `score`."""
        name = self.score or next(iter(self._head.scores))
        return self._head.scores[name](self, params, decision)


def _there(present: Mapping[str, Array]) -> Array:
    """Presence [modality, ...], alphabetically: the order in which mapped dictionaries arrive."""
    return jnp.stack([present[m] for m in sorted(present)])
