"""COX: connect an unknown modality to known ones, then explore what only it knows.

"Towards Out-of-Modal Generalization without Instance-level Modal Correspondence", ICLR 2025. With
z = g(x) the learner's features of out-of-modal x, h its head, zₖ embeddings of in-modal modality k,
a variational bottleneck mₖ = VIBₖ(zₖ) into the learner's space and a linear head hₖ on mₖ,

    connect   Σₖ mean ‖z − mₖ‖² + H(y, h(z)) on pairs, H(y, hₖ(mₖ)) on in-modal examples    (eq. 9)
    explore   1/(|A| + |D|) Σ_{d∈D} mean_a KL(h(x_d) ‖ h(x_a)), a ∈ A                 (eq. 13, 15)

where D are the examples on which the hₖ(z) do not agree, and A are anchors. With pairs ("semi") A
are the labelled examples. Without, everything follows from the in-modal heads, in phases:

    probe     hₖ learn the in-modal labels
    anchors   H(agreed class, h(z)) on the T examples where the hₖ(z) agree and are surest  (eq. 14)
    connect   VIBₖ maps the in-modal centroid of a class to that of what h gives this class
    explore   A are the S examples of least minᵢ 1/K Σₖ ‖z − mₖᵢ‖, labelled as their i, to whose
              embeddings they are connected; H(label, h(z)) on A, and D as above            (eq. 15)

What the paper leaves open, and what is taken. All pairs (d, a) of equal weight have the uniform
distribution as their optimum, so d is compared with the anchors of the classes that its heads name
(`pairing`); anchors are constants. ‖·‖² is the mean over dimensions, as in the authors' code. hₖ
reads the mappings (Figure 5), which it does not move; `head_input="embedding"` reads zₖ, as the
authors' code does. K = 1: D is empty, and nothing is explored.

T, S, centroids and minᵢ are over all examples, once every `refresh_every` steps, between which
anchors are kept; of eq. 15's anchors D sees the logits of that moment (≠: the paper's are current).
Nothing tells the heads which cluster of an untrained learner's features is which class, so the
anchors of eq. 14 are at chance, and so is what follows, unless the learner starts from parameters
that share their geometry with the in-modal space (`learner_init`).

Ours, with pairs: `weight_shared` has h learn H(y, h(mₖ)), too, the part of eq. 8 that eq. 9 leaves
out; target="consensus" draws D to what h and the hₖ say together, sharpened, which breaks the tie
between the classes that the hₖ name. `gate` lets a head name classes for D only while it is right
more often than h on those labelled pairs of D that training does not see ("validation"). target=
"labels" is an oracle, to find what exploration could gain.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from unirep_jax import losses
from unirep_jax.data.resident import Pool, Whole
from unirep_jax.losses import cross_entropy
from unirep_jax.methods import cox_paired, cox_unpaired, emergent, exploration, schedule
from unirep_jax.methods.batch import standardize
from unirep_jax.methods.method import Decision, Embedding, RefreshingMethod
from unirep_jax.methods.out_of_modal_learner import (
    POOLS,
    OutOfModalLearner,
    Terms,
    linear,
    linear_head,
    pool_keys,
)
from unirep_jax.models.bottleneck import Bottleneck
from unirep_jax.models.initial import initialize


@dataclasses.dataclass(frozen=True)
class COX(OutOfModalLearner, RefreshingMethod):
    """Hyper-parameters (the paper's where it states them) and the functions made of them.

    in_modal, examples, steps: of the data and of training, filled in by `for_data` and `for_pools`.
    """

    in_modal: tuple[tuple[str, int], ...] = ()  # modality, length of its embeddings
    examples: int = 0  # without label, where nothing is paired; 0: there are pairs
    steps: int = 0  # of training

    latent: int = 256
    hidden: int = 1024
    head_input: str = "mapped"  # or "embedding"
    hold_features: bool = False  # eq. 9 moves the mappings alone
    weight_connection: float = 1.0
    weight_heads: float = 1.0

    warmup: float = 0.333  # share of the steps before exploration, with pairs
    pairing: str = "class"
    normalization: str = "examples"  # or "pairs": a sum over pairs, as printed
    weight_explore: float = 1.0
    weight_agreed: float = 0.0  # eq. 10's A: what the heads agree on, as a label

    # Ours, with pairs alone; without effect as they stand.
    weight_shared: float = 0.0  # h learns in-modal examples by their mappings, too: eq. 8
    target: str = "anchors"  # of D; or "consensus" of h and hₖ, or "labels", an oracle
    heads_share: float = 0.5  # of the consensus
    consensus_sharpness: float = 0.5  # its temperature
    gate: bool = False  # only heads that beat h on held-out labels are heard
    gate_momentum: float = 0.95  # of the running average that decides it

    probe: float = 0.25  # shares of the steps, without pairs; what is left explores
    anchors: float = 0.25
    connect: float = 0.25
    share: float = 0.1  # T and S, of all examples
    refresh_every: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "head_input": ("mapped", "embedding"),
            "pairing": ("class", "nearest", "random", "all", "marginal"),
            "normalization": ("examples", "pairs"),
            "target": ("anchors", "consensus", "labels"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is none of {allowed}")

    def inert(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> list[str]:
        """Exploration where heads cannot disagree."""
        alone = self.weight_explore and len(shapes) == 2
        return ["explore (one in-modal modality agrees with itself)"] if alone else []

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> "COX":
        """The method for these data; every modality but the out-of-modal one is an embedding.

        Raises:
          ValueError: no such modality, none besides it, or heads of embeddings that are not as long
            as the learner's features.
        """
        method = super().for_data(shapes, classes)
        lengths = {m: math.prod(s) for m, s in sorted(shapes.items()) if m != method.modality}
        if not lengths:
            raise ValueError(f"there is no modality besides {method.modality!r}")
        for m, length in lengths.items():
            if self.head_input == "embedding" and length != self.dim:
                raise ValueError(
                    f"head_input='embedding': {m} has {length} dimensions, dim={self.dim}"
                )
        return dataclasses.replace(method, in_modal=tuple(lengths.items()))

    def for_pools(self, pools: Mapping[str, Pool], steps: int) -> "COX":
        """The method for these examples; without pairs it looks at all of them now and then.

        Raises:
          ValueError: a phase has no step; or the oracle's labels are not there.
        """
        if self.target == "labels" and not all(p.labelled for p in pools.values()):
            raise ValueError(
                "target='labels': an oracle; unlabelled examples have labels only "
                "where the task reveals them"
            )
        if self.gate and "validation" not in pools:
            raise ValueError("gate=True needs pairs that training does not see: task.validation")
        paired = "labelled" in pools
        examples = 0 if paired else len(pools["unlabelled"].rows)
        every = 0 if paired else self.refresh_every
        method = dataclasses.replace(self, examples=examples, steps=steps, refresh_every=every)
        if paired and not ("unlabelled" in pools and (self.weight_explore or self.weight_agreed)):
            return method
        if not paired and every < 1:
            raise ValueError(f"refresh_every={every}: without pairs it must be at least 1")
        schedule.check_phases(method.phases(), steps, every)
        return method

    def phases(self) -> dict[str, float]:
        """The share of the steps that each phase before exploration has."""
        names = ("probe", "anchors", "connect") if self.examples else ("warmup",)
        return {name: getattr(self, name) for name in names}

    def ends(self) -> tuple[int, ...]:
        """The step at which each phase before exploration ends."""
        return schedule.ends(self.phases(), self.steps, self.refresh_every)

    def bottleneck(self) -> Bottleneck:
        return Bottleneck(self.dim, self.hidden, self.latent)

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """As the other methods, with a bottleneck and a head per in-modal modality."""
        params, state = super().init(key, shapes, statistics)
        bottleneck, lengths = self.bottleneck(), dict(self.in_modal)
        params |= {"bottleneck": {}, "in_modal_head": {}}
        for place, (m, length) in enumerate(self.in_modal):
            own = jax.random.fold_in(key, 2 + place)
            params["bottleneck"][m] = initialize(bottleneck, own, jnp.zeros(length))["params"]
            params["in_modal_head"][m] = linear_head(own, self.dim, self.classes)
        if self.gate:
            state["advantage"] = jnp.zeros(len(self.in_modal))
        if self.examples:
            count = math.ceil(self.share * self.examples)
            state["anchors"] = emergent.no_anchors(count, self.dim, self.classes, lengths)
            state["centroids"] = emergent.no_centroids(self.classes, self.dim, lengths)
        return params, state

    def embeddings(self, state: dict, pool: dict) -> dict[str, Float[Array, "batch length"]]:
        """Standardised in-modal embeddings of a pool, as vectors."""
        x = standardize({m: pool["features"][m] for m, _ in self.in_modal}, state["statistics"])
        return {m: v.reshape(len(v), -1) for m, v in x.items()}

    def mapped(self, params: dict, embeddings: dict, keys=None) -> dict[str, Array]:
        """mₖ; with keys by a draw of the latent variable, else by its mean."""
        network, found = self.bottleneck(), {}
        for place, (m, x) in enumerate(embeddings.items()):
            variables = {"params": params["bottleneck"][m]}

            def one(x, key, variables=variables, place=place):
                latent, log_variance = network.apply(variables, x, method="encode")
                if key is not None:
                    own = jax.random.fold_in(key, place)
                    latent = losses.reparameterize(latent, log_variance, key=own)
                return network.apply(variables, latent, method="decode")

            found[m] = jax.vmap(one, in_axes=(0, None if keys is None else 0))(x, keys)
        return found

    def votes(self, params: dict, z: Float[Array, "batch dim"]) -> Float[Array, "head batch class"]:
        """hₖ(z), as constants."""
        heads, z = jax.lax.stop_gradient((params["in_modal_head"], z))
        return jnp.stack([linear(heads[m], z) for m, _ in self.in_modal])

    # -- loss --------------------------------------------------------------------------------

    def terms(self, params, state, batch, key, axis_name) -> tuple[Terms, dict, dict]:
        if self.gate:
            state = state | {
                "advantage": cox_paired.advantage(self, params, state, batch, axis_name)
            }
        batch = {n: pool for n, pool in batch.items() if n in POOLS}
        keys = {n: pool_keys(key, n, p, axis_name, ("latent", "pair")) for n, p in batch.items()}
        z = {
            n: self.encode(params, self.inputs(state, batch[n]), keys[n])
            for n in ("labelled", "unlabelled")
            if n in batch
        }
        embeddings = {n: self.embeddings(state, p) for n, p in batch.items() if n != "unlabelled"}
        maps = {n: self.mapped(params, e, keys[n]["latent"]) for n, e in embeddings.items()}
        terms: Terms = {
            "heads": (self.weight_heads, self._heads(params, batch, embeddings, maps, axis_name))
        }
        if "labelled" in batch:
            own = cox_paired.terms(self, params, state, batch, z, maps, keys, axis_name)
            shown = {}
        else:
            own, shown = cox_unpaired.terms(
                self, params, state, batch, z["unlabelled"], keys["unlabelled"], axis_name
            )
        # A term without weight is not computed.
        terms |= {k: term for k, term in own.items() if getattr(self, f"weight_{k}", 1.0)}
        if "unlabelled" in batch:
            other = maps["in_modal" if "in_modal" in maps else "labelled"]
            shown |= self._shown(params, z["unlabelled"], other, axis_name)
        if self.gate:
            names = (f"advantage/{m}" for m, _ in self.in_modal)
            shown |= dict(zip(names, state["advantage"], strict=True))
        return terms, state, shown

    def disagreement(self, params, state, pool, z):
        """Votes of the heads and D; with a gate, of those that are ahead of the learner."""
        votes = self.votes(params, z)
        where = ~losses.agreement(votes).agree & pool["present"][self.modality]
        if self.gate:
            return exploration.gated(votes, where, state["advantage"] > 0)
        return votes, where

    def _heads(self, params, batch, embeddings, maps, axis_name) -> Float[Array, ""]:
        """Σₖ H(y, hₖ(mₖ)), the mean over pools; neither mappings nor embeddings move."""
        read = jax.lax.stop_gradient(maps if self.head_input == "mapped" else embeddings)
        total = jnp.float32(0)
        for n, vectors in read.items():
            for m, x in vectors.items():
                loss = cross_entropy(linear(params["in_modal_head"][m], x), batch[n]["label"])
                where = batch[n]["present"][m]
                total += losses.masked_mean(loss, where, axis_name=axis_name)
        return total / len(read)

    def explore(self, params, state, pool, z, anchors, keys, axis_name) -> Float[Array, ""]:
        """The sum over D of the divergence from the anchors A: eq. 13, 15."""
        votes, where = self.disagreement(params, state, pool, z)
        logits = linear(params["head"], z)
        if self.pairing == "marginal":
            return losses.marginal_divergence(
                logits,
                anchors.logits,
                where=where,
                anchor_where=anchors.where,
                axis_name=axis_name,
            )
        pairs = exploration.anchor_pairs(self.pairing, votes, z, anchors, keys)
        loss = losses.anchor_divergence(logits, anchors.logits, pairs)
        if self.normalization == "pairs":
            loss = loss * jnp.sum(pairs, axis=1, dtype=loss.dtype)
        d, a = jnp.sum(where, dtype=loss.dtype), jnp.sum(anchors.where, dtype=loss.dtype)
        if axis_name is not None:
            d = jax.lax.psum(d, axis_name)
        return losses.masked_mean(loss, where, axis_name=axis_name) * d / jnp.maximum(d + a, 1)

    def _shown(self, params, z, maps, axis_name) -> dict[str, Float[Array, ""]]:
        """How often the heads agree, and how far mappings are from features (Figure 5)."""
        agree = losses.agreement(self.votes(params, z)).agree
        shown = {"agreement": losses.masked_mean(agree.astype(z.dtype), axis_name=axis_name)}
        z, maps = jax.lax.stop_gradient((z, maps))
        if axis_name is not None:
            z, maps = jax.lax.all_gather((z, maps), axis_name, tiled=True)
        for m, x in maps.items():
            shown[f"mmd/{m}"] = losses.maximum_mean_discrepancy(z, x)
        return shown

    def refresh(self, params: dict, state: dict, wholes: Mapping[str, Whole]) -> dict:
        """The state with the anchors or centroids of the phase that begins, or goes on, here."""
        return cox_unpaired.refresh(self, params, state, wholes)

    # -- readout -----------------------------------------------------------------------------

    def explores_from(self) -> int:
        """The step at which exploration begins."""
        return self.ends()[-1]

    def classify(
        self,
        params: dict,
        state: dict,
        features: Mapping[str, Float[Array, "batch ..."]],
        present: Mapping[str, Bool[Array, "batch"]],
    ) -> dict[str, Decision]:
        """As the other methods, with the mappings of in-modal modalities and their heads' votes."""
        decision = super().classify(params, state, features, present)[self.modality]
        embeddings = self.embeddings(state, {"features": features})
        votes = jnp.swapaxes(self.votes(params, jnp.asarray(decision.features)), 0, 1)
        decision = decision._replace(mapped=self.mapped(params, embeddings), votes=votes)
        return {self.modality: decision}

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """Features of the out-of-modal modality, mappings of the embeddings of the others."""
        if modality == self.modality:
            return super().embed(params, state, modality, features)
        x = standardize({modality: features}, state["statistics"])[modality]
        z = self.mapped(params, {modality: x.reshape(len(x), -1)})[modality]
        return Embedding(z[:, None], losses.unit(z))
