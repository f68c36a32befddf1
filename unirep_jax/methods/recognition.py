"""MRN and the rows that it is compared with: encoders → fusion → head → score.

MRN ("Towards Multimodal Open Set Recognition", 2024) lets every modality's tokens ask for what
matters in the others (eq. 1) and gives what comes of it to a mixture of experts (eq. 2). It trains

    L = −log softmax(f)[y] + λ (CV²(importance) + CV²(load))                            (eq. 3, 6)

An example is rejected as unknown where its score, max softmax(f), is below a threshold (eq. 4).
Names of the rows, all of which `RECOGNIZERS` has by name, are HEAD-FUSION or, for softmax, FUSION:

    | fusion          |                                  | head    | loss                  | score |
    |-----------------|----------------------------------|---------|-----------------------|-------|
    | mrn             | cross-attention, then experts    |         | cross-entropy         | max p |
    | cross_attention | MRN without experts              | openauc | + ranking over mixed  | max l |
    | gqa             | keys shared by groups of heads   | arpl    | far from points       | max l |
    | concat, add     | of mean tokens                   | rpl     | far from points       | max p |
    | alone           | one modality (`modality`)        | gcpl    | near prototypes       | max p |
    | single          | each modality for itself         | cssr    | class autoencoders    | error |
    | tmc             | evidence combined (late)         | rcssr   | the same, reciprocal  | error |
    | mla             | shared head, modalities in turn  |         |                       |       |

What the paper leaves open, and what is taken: tokens, not vectors, are fused (to a single key
attention is a linear map); λ = 0.01; experts emit logits, or the embedding that another head takes.

≠ MLA: a step trains one modality, so an optimiser with momentum moves the others a little, too; the
damping is the geometric mean of the authors' schedule. ≠ CSSR: the score has no prototype response.
A modality that an example lacks is left out of its fusion.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses, metrics
from unirep_jax.losses import cross_entropy
from unirep_jax.methods.batch import Shapes, example_keys, shapes_of, standardize
from unirep_jax.methods.method import Batches, ClassifyingMethod, Decision, TrainedMethod
from unirep_jax.models.augmentation import augment
from unirep_jax.models.heads import ClassAutoencoders, ClassPoints
from unirep_jax.models.recognizer import Outputs, Recognizer

FUSIONS = ("late", "late_shared", "single", "add", "concat", "gqa", "cross_attention")
POINTS = {"arpl": losses.arpl_logits, "rpl": losses.rpl_logits, "gcpl": losses.gcpl_logits}
RECONSTRUCTION = {"cssr": -0.1, "rcssr": 0.1}  # scale of the reconstruction error
HEADS = ("softmax", "openauc", "tmc", "mla", *POINTS, *RECONSTRUCTION)
ARCHITECTURE = (  # settings of the `Recognizer`
    "fusion", "modality", "width", "tokens", "layers", "dropout", "images", "heads", "kv_heads",
    "residual", "pairs", "experts", "count", "hidden", "vocabulary",
)  # fmt: skip
SCORES = ("", "max_softmax", "max_logit", "energy", "ash", "certainty")


@dataclasses.dataclass(frozen=True)
class OpenSetClassifier(ClassifyingMethod, TrainedMethod):
    """Hyper-parameters (MRN's where the paper states them) and the functions made of them."""

    batches: ClassVar[Batches] = Batches.LABELLED

    fusion: str = "cross_attention"
    head: str = "softmax"
    score: str = ""  # that of the head; "max_softmax", "max_logit", "energy", "ash", "certainty"
    modality: str = ""  # of fusion "single"
    classes: int = 0  # known ones; 0: those of the data

    width: int = 512
    tokens: int = 4  # that a plain vector is made of
    layers: int = 2
    dropout: float = 0.0
    images: tuple[int, ...] = (3, 4, 6, 3)  # stages of the ResNet
    vocabulary: tuple[tuple[str, int], ...] = ()  # (modality, number of word ids)

    heads: int = 8
    kv_heads: int = 2  # of fusion "gqa"
    residual: bool = False
    pairs: tuple[tuple[str, str], ...] = ()  # (query, key) that attend, of fusion; (): all

    experts: int = 15  # 0: none
    count: int = 4
    hidden: int = 512
    weight_balance: float = 0.01

    embedding: int = 128  # features of heads with points or autoencoders
    latent: int = 64
    temperature: float = 1.0
    weight_pull: float = 0.1
    weight_open: float = 0.1
    anneal: int = 500  # steps until the evidential divergence has its full weight
    damping: float = 0.03
    percentile: float = 90.0  # of "ash"

    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, allowed in (("fusion", FUSIONS), ("head", HEADS), ("score", SCORES)):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is none of {allowed}")
        late = {"tmc": "late", "mla": "late_shared"}.get(self.head)
        if self.fusion != late if late else self.fusion == "late_shared":
            raise ValueError(f"head={self.head!r} does not go with fusion={self.fusion!r}")
        if self.fusion == "late" and self.head not in ("softmax", "tmc"):
            raise ValueError(f"fusion='late' has head 'softmax' or 'tmc', not {self.head!r}")
        if self.score == "certainty" and self.head != "tmc":
            raise ValueError("score='certainty' is of head='tmc'")
        if self.score == "ash" and (self.experts or self.head != "softmax" or not self.hidden):
            raise ValueError("score='ash' needs head='softmax', experts=0 and a hidden layer")
        if self.experts and not 1 <= self.count <= self.experts:
            raise ValueError(f"count={self.count} is not between 1 and experts={self.experts}")

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> "OpenSetClassifier":
        """The method for these modalities and known classes.

        Raises:
          ValueError: `modality`, `pairs` or `vocabulary` name one that is not there.
        """
        named = [*dict(self.vocabulary), *(m for pair in self.pairs for m in pair)]
        named += [self.modality] if self.fusion == "single" else []
        for m in named:
            if m not in shapes:
                raise ValueError(f"modality {m!r} is none of {', '.join(shapes)}")
        if self.fusion in ("gqa", "cross_attention") and len(shapes) < 2:
            raise ValueError(f"fusion={self.fusion!r} needs two modalities")
        return dataclasses.replace(self, classes=classes)

    @property
    def _embeds(self) -> bool:
        return self.head in POINTS or self.head in RECONSTRUCTION

    def network(self, shapes: Shapes, axis_name: str | None = None) -> Recognizer:
        return Recognizer(
            shapes=shapes,
            outputs=self.embedding if self._embeds else self.classes,
            axes=("example",) if axis_name is None else ("example", axis_name),
            **{name: getattr(self, name) for name in ARCHITECTURE},
        )

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """Parameters, and the state that no gradient changes."""
        example = {m: jnp.zeros(shape) for m, shape in shapes.items()}
        present = {m: jnp.bool_(True) for m in shapes}
        network = self.network(tuple(shapes.items()))
        init = lambda key: network.init(key, example, present, None, train=False)
        variables = jax.jit(init)(key)
        params = {"network": variables["params"]}
        head_key = jax.random.fold_in(key, 1)
        if self.head in POINTS:
            head = ClassPoints(self.classes, self.embedding)
            params["head"] = head.init(head_key)["params"]
        if self.head in RECONSTRUCTION:
            head = ClassAutoencoders(self.classes, self.embedding, self.latent)
            params["head"] = head.init(head_key)["params"]
        state = {
            "statistics": jax.tree.map(jnp.asarray, statistics),
            "step": jnp.int32(0),
            "batch_stats": variables.get("batch_stats", {}),
        }
        if self.head == "mla":
            state["projector"] = jnp.eye(self.width)
        return params, state

    def _inputs(self, features, statistics):
        words = dict(self.vocabulary)
        plain = {m: x for m, x in features.items() if m not in words}
        return {m: features[m] for m in features} | standardize(plain, statistics)

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
        labels, present = batch["label"], batch["present"]
        purposes = ("augment", "dropout", "gates")
        keys = example_keys(key, labels.shape[0], purposes, axis_name)
        inputs = self._inputs(batch["features"], state["statistics"])
        network = self.network(shapes_of(inputs), axis_name)
        weights = self._weights(params, state)
        variables = {"params": weights, "batch_stats": state["batch_stats"]}

        def one(x, there, augment_key, dropout_key, gate_key):
            plain = {m: v for m, v in x.items() if m not in dict(self.vocabulary)}
            x = x | augment(plain, augment_key, noise=self.noise, gain=self.gain, warp=self.warp)
            rngs = {"dropout": dropout_key}
            return network.apply(
                variables, x, there, gate_key, train=True, mutable=["batch_stats"], rngs=rngs
            )

        outputs, updated = jax.vmap(one, out_axes=(0, None), axis_name="example")(
            inputs, present, *keys.values()
        )
        step = state["step"]
        state = state | {"step": step + 1, "batch_stats": updated.get("batch_stats", {})}
        terms = {}
        if self.head == "mla":
            terms["classification"], state["projector"] = self._in_turn(
                outputs, labels, present, step, state["projector"], axis_name
            )
        else:
            terms["classification"] = self._classification(
                params, outputs, labels, present, step, axis_name
            )
        loss = terms["classification"]
        where = self._where(present)
        if outputs.gates is not None:
            terms["balance"] = losses.load_balance_loss(
                *outputs.gates, where=where, axis_name=axis_name
            )
            loss += self.weight_balance * terms["balance"]
        if self.head == "openauc":
            head = lambda z, k: network.apply({"params": weights}, z, k, method="head")[0]
            terms["open"] = self._open(head, outputs, labels, where, key, keys["gates"], axis_name)
            loss += self.weight_open * terms["open"]
        return loss, (state, terms)

    def _weights(self, params, state):
        """The network's parameters; MLA projects the gradient of the shared head."""
        weights = params["network"]
        if self.head != "mla":
            return weights
        kernel = weights["classifier"]["kernel"]
        fixed = jax.lax.stop_gradient(kernel)
        kernel = fixed + losses.project_gradient(state["projector"], kernel - fixed)
        return weights | {"classifier": weights["classifier"] | {"kernel": kernel}}

    def _where(self, present) -> Array:
        """Examples that have something to be classified by."""
        if self.fusion == "single":
            return present[self.modality]
        return _there(present).any(0)

    def _classification(self, params, outputs: Outputs, labels, present, step, axis_name):
        values, where, head = outputs.values, self._where(present), params.get("head")
        mean = lambda loss, where: losses.masked_mean(loss, where, axis_name=axis_name)
        if self.head == "tmc":
            there = _there(present)  # [modality, batch]
            evidence = jax.nn.softplus(jnp.swapaxes(values, 0, 1))
            joint = losses.combine_opinions(evidence, there)[None]
            evidence, there = jnp.concatenate([evidence, joint]), jnp.vstack([there, where[None]])
            weight = jnp.minimum(1.0, step.astype(jnp.float32) / self.anneal)
            each = [losses.evidential_loss(e, labels, kl_weight=weight, where=w)
                    for e, w in zip(evidence, there, strict=True)]  # fmt: skip
            return sum(mean(loss, w) for loss, w in zip(each, there, strict=True))
        if self.fusion == "late":
            each = [(cross_entropy(values[:, i], labels), p) for i, p in enumerate(_there(present))]
            return sum(mean(*pair) for pair in each)
        if self.head in POINTS:
            radius = () if self.head == "gcpl" else (head["radius"],)
            kernel = getattr(losses, f"{self.head}_loss")
            loss = kernel(
                values, head["points"], *radius, labels, temperature=self.temperature,
                weight=self.weight_pull, where=where,
            )  # fmt: skip
            return mean(loss, where)
        if self.head in RECONSTRUCTION:
            logits = self._reconstruction(values, head)
            return mean(losses.averaged_softmax_loss(logits, labels), where)
        return mean(cross_entropy(values, labels), where)

    def _reconstruction(self, embedding, head):
        return losses.class_autoencoder_logits(
            embedding[:, None], head["encode"], head["decode"], scale=RECONSTRUCTION[self.head]
        )

    def _in_turn(self, outputs, labels, present, step, projector, axis_name):
        """MLA: cross-entropy of the modality whose turn it is, and the projector after it."""
        turn = step % len(present)
        where = _there(present)[turn]
        logits = jnp.take(outputs.values, turn, axis=1)
        loss = losses.masked_mean(cross_entropy(logits, labels), where, axis_name=axis_name)
        projector = losses.update_projector(
            projector, jnp.take(outputs.features, turn, axis=1), damping=self.damping,
            where=where, axis_name=axis_name,
        )  # fmt: skip
        return loss, projector

    def _open(self, head, outputs, labels, where, key, gate_keys, axis_name):
        """OpenAUC: odd rows are mixed with others' and scored against the even rows."""
        even = (labels.shape[0] // 2) * 2
        odd, even = slice(1, even, 2), slice(0, even, 2)
        mixed = losses.mix_classes(
            outputs.features[odd], labels[odd], key=jax.random.fold_in(key, 3), where=where[odd],
            axis_name=axis_name,
        )  # fmt: skip
        value = losses.open_auc_loss(
            outputs.values[even], jax.vmap(head)(mixed.features, gate_keys[odd]),
            labels[even], where=where[even] & mixed.where,
        )  # fmt: skip
        return losses.masked_mean(value.loss, value.counted, axis_name=axis_name)

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
        inputs = self._inputs(features, state["statistics"])
        network = self.network(shapes_of(inputs))
        variables = {"params": params["network"], "batch_stats": state["batch_stats"]}
        apply = lambda x, there: network.apply(variables, x, there, None, train=False)
        outputs = jax.vmap(apply)(inputs, present)
        if self.fusion == "late" and self.head == "softmax":
            parts = [jax.tree.map(lambda a, i=i: a[:, i], outputs) for i in range(len(inputs))]
            return {m: self._decision(params, part, {m: present[m]})
                    for m, part in zip(sorted(inputs), parts, strict=True)}  # fmt: skip
        source = self.modality if self.fusion == "single" else "+".join(sorted(inputs))
        return {source: self._decision(params, outputs, present)}

    def _decision(self, params, outputs: Outputs, present) -> Decision:
        logits = values = outputs.values
        features, there = outputs.features, _there(present)
        if self.head in POINTS:
            features, logits = values, POINTS[self.head](values, params["head"]["points"])
            values = logits
        elif self.head in RECONSTRUCTION:
            maps = self._reconstruction(values, params["head"])
            size = jnp.abs(values).mean(-1)[:, None] if self.head == "cssr" else None
            features, logits = values, jnp.log(losses.averaged_softmax(maps))
            values = losses.class_autoencoder_score(maps, magnitude=size)
        elif self.head == "tmc":
            logits = values = losses.combine_opinions(
                jax.nn.softplus(jnp.swapaxes(values, 0, 1)), there
            )
        elif self.head == "mla":
            logits = values = losses.fuse_by_certainty(jnp.swapaxes(values, 0, 1), there).logits
        gates = None if outputs.gates is None else outputs.gates.gates
        features = features.reshape(len(features), -1)
        return Decision(logits, features, self._where(present), values, gates)

    def known_scores(self, params: dict, decision: Decision) -> Float[np.ndarray, "example"]:
        """How known each example looks, float64, higher = more known, by the score of the head."""
        values = np.asarray(decision.values)
        if self.head in RECONSTRUCTION:
            return values.astype("float64")
        if self.head == "tmc":
            certain = self.score == "certainty"
            return (metrics.evidential_certainty if certain
                    else metrics.max_expected_probability)(values)  # fmt: skip
        if self.score == "ash":
            last = params["network"]["classifier"]
            pruned = metrics.ash(decision.features, percentile=self.percentile)
            return metrics.energy(pruned @ last["kernel"] + last["bias"])
        default = "max_logit" if self.head in ("openauc", "arpl") else "max_softmax"
        return getattr(metrics, self.score or default)(values)


def _there(present: dict[str, Array]) -> Array:
    """Presence [modality, ...], alphabetically: the order in which mapped dictionaries arrive."""
    return jnp.stack([present[m] for m in sorted(present)])


_FUSIONS = {
    "mrn": OpenSetClassifier(),
    "cross_attention": OpenSetClassifier(experts=0),
    "gqa": OpenSetClassifier(fusion="gqa", experts=0),
    "concat": OpenSetClassifier(fusion="concat", experts=0),
    "add": OpenSetClassifier(fusion="add", experts=0),
    "alone": OpenSetClassifier(fusion="single", experts=0),
}
RECOGNIZERS = {
    **_FUSIONS,
    "single": OpenSetClassifier(fusion="late", experts=0),
    "tmc": OpenSetClassifier(fusion="late", head="tmc", experts=0),
    "mla": OpenSetClassifier(fusion="late_shared", head="mla", experts=0),
    **{
        f"{head}-{name}": dataclasses.replace(row, head=head)
        for head in ("openauc", *POINTS, *RECONSTRUCTION) for name, row in _FUSIONS.items()
    },
}  # fmt: skip
