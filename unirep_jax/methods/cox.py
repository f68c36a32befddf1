"""COX: connect an unknown modality to known ones, then explore what only it knows.

"Towards Out-of-Modal Generalization without Instance-level Modal Correspondence", ICLR 2025. With
z = g(x) the learner's features of out-of-modal x, h its head, zₖ embeddings of in-modal modality k,
a variational bottleneck mₖ = VIBₖ(zₖ) into the learner's space and a linear head hₖ on mₖ,

    connect   Σₖ mean ‖z − mₖ‖² + H(y, h(z)) on pairs, H(y, hₖ(mₖ)) on in-modal examples    (eq. 9)
    explore   1/(|A| + |D|) Σ_{d∈D} mean_a KL(h(x_d) ‖ h(x_a)), a ∈ A                 (eq. 13, 15)

where D are the examples on which the hₖ(z) do not agree, and A are anchors. With pairs ("semi") A
are the labelled examples. Without, everything follows from the in-modal heads, in phases of steps:

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
from unirep_jax.methods import emergent
from unirep_jax.methods.batch import standardize
from unirep_jax.methods.method import Decision, Embedding, RefreshingMethod
from unirep_jax.methods.out_of_modal_learner import (
    OutOfModalLearner,
    Terms,
    linear,
    linear_head,
    pool_keys,
)
from unirep_jax.models.bottleneck import Bottleneck


@dataclasses.dataclass(frozen=True)
class COX(OutOfModalLearner, RefreshingMethod):
    """Hyper-parameters (the paper's where it states them) and the functions made of them.

    in_modal, examples: of the data, filled in by `for_data` and `for_pools`.
    """

    in_modal: tuple[tuple[str, int], ...] = ()  # modality, length of its embeddings
    examples: int = 0  # without label, where nothing is paired; 0: there are pairs

    latent: int = 256
    hidden: int = 1024
    head_input: str = "mapped"  # or "embedding"
    hold_features: bool = False  # eq. 9 moves the mappings alone
    weight_connection: float = 1.0
    weight_heads: float = 1.0

    warmup: int = 100  # steps before exploration, with pairs
    pairing: str = "class"
    normalization: str = "examples"  # or "pairs": a sum over pairs, as printed
    weight_explore: float = 1.0

    probe: int = 100  # steps of each phase, without pairs
    anchors: int = 100
    connect: int = 100
    share: float = 0.1  # T and S, of all examples
    refresh_every: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "head_input": ("mapped", "embedding"),
            "pairing": ("class", "nearest", "random", "all", "marginal"),
            "normalization": ("examples", "pairs"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is none of {allowed}")

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

    def for_pools(self, pools: Mapping[str, Pool]) -> "COX":
        """The method for these examples; without pairs it looks at all of them now and then.

        Raises:
          ValueError: a phase begins between two looks.
        """
        if "labelled" in pools:
            return dataclasses.replace(self, examples=0, refresh_every=0)
        for phase in ("probe", "anchors", "connect"):
            steps = getattr(self, phase)
            if self.refresh_every < 1 or steps % self.refresh_every:
                raise ValueError(
                    f"{phase}={steps} is not a multiple of refresh_every={self.refresh_every}"
                )
        return dataclasses.replace(self, examples=len(pools["unlabelled"].rows))

    def bottleneck(self) -> Bottleneck:
        return Bottleneck(self.dim, self.hidden, self.latent)

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """As the other methods, with a bottleneck and a head per in-modal modality."""
        params, state = super().init(key, shapes, statistics)
        init, lengths = jax.jit(self.bottleneck().init), dict(self.in_modal)
        params |= {"bottleneck": {}, "in_modal_head": {}}
        for place, (m, length) in enumerate(self.in_modal):
            own = jax.random.fold_in(key, 2 + place)
            params["bottleneck"][m] = init(own, jnp.zeros(length))["params"]
            params["in_modal_head"][m] = linear_head(own, self.dim, self.classes)
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
        keys = {n: pool_keys(key, n, p, axis_name, ("latent", "pair")) for n, p in batch.items()}
        z = {
            n: self.encode(params, self.inputs(state, batch[n]), keys[n])
            for n in ("labelled", "unlabelled") if n in batch
        }  # fmt: skip
        embeddings = {n: self.embeddings(state, p) for n, p in batch.items() if n != "unlabelled"}
        maps = {n: self.mapped(params, e, keys[n]["latent"]) for n, e in embeddings.items()}
        terms: Terms = {
            "heads": (self.weight_heads, self._heads(params, batch, embeddings, maps, axis_name))
        }
        if "labelled" in batch:
            own, shown = self._paired(params, state, batch, z, maps, keys, axis_name)
        else:
            own, shown = self._unpaired(params, state, batch, z["unlabelled"], keys, axis_name)
        # A term without weight is not computed.
        terms |= {k: term for k, term in own.items() if getattr(self, f"weight_{k}", 1.0)}
        if "unlabelled" in batch:
            other = maps["in_modal" if "in_modal" in maps else "labelled"]
            shown |= self._shown(params, z["unlabelled"], other, axis_name)
        return terms, state, shown

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

    def _paired(self, params, state, batch, z, maps, keys, axis_name) -> tuple[Terms, dict]:
        """Eq. 9 on the pairs and, after the warm-up, the second term of eq. 13."""
        pool, features = batch["labelled"], z["labelled"]
        there = pool["present"]
        classification = self.classification(params, features, pool, axis_name)
        terms: Terms = {"classification": (1.0, classification)}
        target = jax.lax.stop_gradient(features) if self.hold_features else features
        connection = jnp.float32(0)
        for m, x in maps["labelled"].items():  # eq. 9
            loss = jnp.mean((target - x) ** 2, axis=1)
            where = there[m] & there[self.modality]
            connection += losses.masked_mean(loss, where, axis_name=axis_name)
        terms["connection"] = (self.weight_connection, connection)
        if "unlabelled" in batch:
            logits = linear(params["head"], features)
            known = (features, logits, pool["label"], there[self.modality])
            known = jax.lax.stop_gradient(known)
            if axis_name is not None:
                known = jax.lax.all_gather(known, axis_name, tiled=True)
            begun = (state["step"] >= self.warmup).astype(jnp.float32)
            value = self._explore(  # type: ignore[call-arg]
                params, batch["unlabelled"], z["unlabelled"], *known, keys["unlabelled"]["pair"],
                axis_name,
            )  # fmt: skip
            terms["explore"] = (self.weight_explore * begun, value)
        return terms, {}

    def _explore(
        self, params, pool, z, anchor_features, anchor_logits, label, anchor_where, keys, axis_name
    ) -> Float[Array, ""]:
        """The sum over D of the divergence from the anchors A: eq. 13, 15."""
        votes = self.votes(params, z)
        where = ~losses.agreement(votes).agree & pool["present"][self.modality]
        logits = linear(params["head"], z)
        if self.pairing == "marginal":
            return losses.marginal_divergence(
                logits, anchor_logits, where=where, anchor_where=anchor_where, axis_name=axis_name
            )
        pairs = self._pairs(votes, z, anchor_features, label, anchor_where, keys)
        loss = losses.anchor_divergence(logits, anchor_logits, pairs)
        if self.normalization == "pairs":
            loss = loss * jnp.sum(pairs, axis=1, dtype=loss.dtype)
        d, a = jnp.sum(where, dtype=loss.dtype), jnp.sum(anchor_where, dtype=loss.dtype)
        if axis_name is not None:
            d = jax.lax.psum(d, axis_name)
        return losses.masked_mean(loss, where, axis_name=axis_name) * d / jnp.maximum(d + a, 1)

    def _pairs(
        self, votes, z, anchor_features, label, anchor_where, keys
    ) -> Bool[Array, "batch anchor"]:
        """The anchors that each example is compared with."""
        everything = jnp.broadcast_to(anchor_where[None], (len(z), len(label)))
        if self.pairing == "all":
            return everything
        if self.pairing == "random":
            draw = jax.vmap(lambda key: jax.random.uniform(key, label.shape))(keys)
            chosen = jnp.argmax(jnp.where(everything, draw, -1), axis=1)
            return everything & (chosen[:, None] == jnp.arange(len(label))[None])
        pairs = losses.candidate_pairs(jnp.argmax(votes, axis=-1), label, anchor_where)
        return (
            losses.nearest_pairs(z, anchor_features, pairs) if self.pairing == "nearest" else pairs
        )

    def _unpaired(self, params, state, batch, z, keys, axis_name) -> tuple[Terms, dict]:
        """Eq. 14's warm-up, the connection of centroids, and eq. 15, each in its phase."""
        pool, anchors, centroids = batch["unlabelled"], state["anchors"], state["centroids"]
        ends = self._ends()
        during = lambda first, last: ((state["step"] >= first) & (state["step"] < last)).astype(
            jnp.float32
        )
        mean = lambda loss, where: losses.masked_mean(loss, where, axis_name=axis_name)
        exploring = (state["step"] >= ends[2]).astype(jnp.float32)
        same = (pool["index"][:, None] == anchors.index[None]) & anchors.where[None]
        place, is_anchor = jnp.argmax(same, axis=1), jnp.any(same, axis=1)
        logits = linear(params["head"], z)
        label = jnp.where(is_anchor, anchors.label[place], 0)
        known = mean(cross_entropy(logits, label), is_anchor)  # after eq. 14; eq. 15
        terms = {"anchors": (during(ends[0], ends[1]) + exploring, known)}

        centre = self.mapped(params, centroids.embeddings)
        apart = sum(jnp.mean((centroids.features - x) ** 2, axis=1) for x in centre.values())
        connection = jnp.mean(jnp.where(centroids.where, apart, 0))
        terms["centroids"] = (self.weight_connection * during(ends[1], ends[2]), connection)

        own = {m: x[place] for m, x in anchors.embeddings.items()}
        maps = self.mapped(params, own, keys["unlabelled"]["latent"])
        target = jax.lax.stop_gradient(z) if self.hold_features else z
        apart = sum(jnp.mean((target - x) ** 2, axis=1) for x in maps.values())
        terms["connection"] = (self.weight_connection * exploring, mean(apart, is_anchor))
        value = self._explore(
            params, pool, z, anchors.features, anchors.logits, anchors.label, anchors.where,
            keys["unlabelled"]["pair"], axis_name,
        )  # fmt: skip
        terms["explore"] = (self.weight_explore * exploring, value)
        return terms, {"anchored": mean(is_anchor.astype(jnp.float32), jnp.ones_like(is_anchor))}

    def _ends(self) -> tuple[int, int, int]:
        """Steps at which the phases probe, anchors and connect end."""
        return self.probe, self.probe + self.anchors, self.probe + self.anchors + self.connect

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

    # -- all examples at once ----------------------------------------------------------------

    def refresh(self, params: dict, state: dict, wholes: Mapping[str, Whole]) -> dict:
        """The state with the anchors or centroids of the phase that begins, or goes on, here."""
        unlabelled, in_modal = wholes["unlabelled"], wholes["in_modal"]
        ends = self._ends()

        def features(pool):
            z = self.apply(params, self.inputs(state, pool))
            return z, linear(params["head"], z), pool["present"][self.modality]

        def select(state):  # eq. 14
            z, logits, there = emergent.of_all(features, unlabelled)
            return state | {"anchors": emergent.agreed_anchors(
                state["anchors"], unlabelled.rows, there, self.votes(params, z), z, logits
            )}  # fmt: skip

        def centre(state):
            z, logits, there = emergent.of_all(features, unlabelled)
            embeddings, label, present = emergent.of_all(
                lambda pool: (self.embeddings(state, pool), pool["label"], pool["present"]),
                in_modal,
            )
            return state | {"centroids": emergent.class_centroids(
                z, jnp.argmax(logits, axis=1), there, embeddings, label, present, self.classes
            )}  # fmt: skip

        def correspond(state):  # the set A of eq. 15
            z, logits, there = emergent.of_all(features, unlabelled)
            mapped, label, present = emergent.of_all(
                lambda pool: (self.mapped(params, self.embeddings(state, pool)), pool["label"],
                              pool["present"]), in_modal,
            )  # fmt: skip
            names = [m for m, _ in self.in_modal]
            embed = lambda places: self.embeddings(state, in_modal.take(in_modal.rows[places]))
            return state | {"anchors": emergent.corresponding_anchors(
                unlabelled.rows, there, z, logits, jnp.stack([mapped[m] for m in names]), label,
                jnp.all(jnp.stack([present[m] for m in names]), axis=0), embed,
                count=len(state["anchors"].index),
            )}  # fmt: skip

        step, same = state["step"], lambda state: state
        state = jax.lax.cond(step == ends[0], select, same, state)
        state = jax.lax.cond(step == ends[1], centre, same, state)
        return jax.lax.cond(step >= ends[2], correspond, same, state)

    # -- readout -----------------------------------------------------------------------------

    def explores_from(self) -> int:
        """The step at which exploration begins."""
        return self._ends()[2] if self.examples else self.warmup

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
