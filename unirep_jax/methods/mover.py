"""MOVER: groups matched by optimal transport, aligned by the volume that they span.

You and Liu, "MOVER: Multimodal Optimal Transport with Volume-based Embedding Regularization",
CIKM 2025. Every modality of an example becomes a unit vector (eq. 2), and training minimises

    L = L_MOVER + λ L_contrastive                                                       (eq. 11)

of which L_MOVER is the volume of all tuples weighted by how well transport matches them (eq. 4-8),
and L_contrastive tells an anchor's group from the groups of other anchors by volume (eq. 9-10).

Presets: `MOVER.paper()`; `MOVER.gram()`, which is Cicchetti et al., "Gramian Multimodal
Representation Learning and Alignment", 2024: eq. 9 alone, with the true groups; `pairwise()`,
InfoNCE between all pairs of modalities. They are the rows of Table 4, read as follows:

    | row         | transport term        | contrastive term          |
    |-------------|-----------------------|---------------------------|
    | full        | volume of tuples      | InfoNCE on volumes        |
    | w/o OT      | none                  | InfoNCE on volumes        |
    | w/o GAVE    | Σ pairs ⟨π, C⟩        | InfoNCE on cosines, pairs |
    | w/o both    | none                  | InfoNCE on cosines, pairs |

What the paper leaves open, and what is taken: ε = 0.05; the plan over three modalities is that
of the anchor (`plan`); every modality is the anchor in turn; the positive group is the true one
(with groups matched by transport instead, training from scratch confirms its own errors); the
positive is in the denominator (without it eq. 9 is not bounded below); no gradient passes the plan.

`gram()` ≠ GRAM's code in two things, which `gram_official()` has: one anchor (text) in place of
every modality in turn, and no gradient to the side that is searched. Its matching head on token
features is not here, and a learned temperature is kept within 0.01 … 1.

A volume does not tell v from −v, and three vectors in one plane have none: from random towers it
aligns modalities with opposite signs, or some of them only. GRAM and MOVER start from pretrained
encoders; `warm_start` steps of pairwise InfoNCE stand for that here.

A modality that an example lacks leaves its group with the volume of the others, and since volumes
of fewer vectors are larger, such a group is compared with groups of the same members alone.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax import losses
from unirep_jax.data.features import FeatureSet
from unirep_jax.methods import matching
from unirep_jax.methods.batch import Shapes, example_keys, shapes_of, standardize
from unirep_jax.methods.linear_start import begin_at_cca, check_linear_start
from unirep_jax.methods.method import Embedding, RepresentationMethod, StartedMethod
from unirep_jax.models.augmentation import augment
from unirep_jax.models.initial import initialize
from unirep_jax.models.towers import Towers

PLANS = ("anchor", "pairs", "multimarginal", "given")
GROUPS = ("all", "top", "sample")
COLDEST, HOTTEST = 0.01, 1.0  # limits of a learned temperature


@dataclasses.dataclass(frozen=True)
class MOVER(RepresentationMethod, StartedMethod):
    """Hyper-parameters (the paper's where it states them) and the functions made of them."""

    dim: int = 512
    layers: int = 0  # blocks before the linear projection
    width: int = 256
    dropout: float = 0.0

    warm_start: int = 0  # steps of pairwise InfoNCE before eq. 11
    measure: str = "volume"  # or "cosine": of pairs of modalities
    anchor: str = ""  # a modality, or all in turn

    weight_transport: float = 1.0
    epsilon: float = 0.05
    iterations: int = 400
    plan_gradient: str = "stop"  # "unroll", "implicit"
    plan: str = "anchor"  # over tuples of three: "pairs", "multimarginal"; "given": no transport
    queue: int = 0  # embeddings of earlier batches that the plans also match with, per modality
    groups: str = "all"  # tuples, for two or three modalities; "top" or "sample" of the plans
    group_count: int = 1  # k' of "top" (1: hard matching), draws of "sample"

    weight_contrast: float = 1.0
    temperature: float = 0.07
    learn_temperature: bool = False
    label_smoothing: float = 0.0
    positives: str = "paired"  # or "transport": the most probable group of the plans
    negatives_only: bool = False  # eq. 9 as printed
    both_directions: bool = True
    gathered_gradient: bool = True  # of the side of a direction that is searched

    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0

    linear_start: bool = False  # begin at linear CCA (`methods.linear_start`)
    cross_entropies: ClassVar[tuple[str, ...]] = ("contrast",)

    @classmethod
    def paper(cls) -> "MOVER":
        """Eq. 11 with the anchor looking for its group only, as eq. 9 has it."""
        return cls(both_directions=False)

    @classmethod
    def gram(cls) -> "MOVER":
        """GRAM's volume loss and its constants, with every modality as the anchor in turn."""
        return cls(weight_transport=0.0, learn_temperature=True, label_smoothing=0.1)

    @classmethod
    def gram_official(cls, anchor: str = "text") -> "MOVER":
        """As GRAM's code: one anchor, and each direction moves only the side that searches."""
        return dataclasses.replace(cls.gram(), anchor=anchor, gathered_gradient=False)

    @classmethod
    def pairwise(cls) -> "MOVER":
        """Symmetric InfoNCE between all pairs of modalities."""
        return cls(weight_transport=0.0, measure="cosine")

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "measure": ("volume", "cosine"),
            "plan": PLANS,
            "groups": GROUPS,
            "plan_gradient": ("stop", "unroll", "implicit"),
            "positives": ("paired", "transport"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}={getattr(self, field)!r} is none of {allowed}")
        if self.plan != "anchor" and self.groups != "all":
            raise ValueError(f"groups={self.groups!r} are drawn from the anchor's plans alone")
        if self.queue and self.plan != "anchor":
            raise ValueError(f"queue={self.queue}: plan={self.plan!r} has no use for it")
        if self.queue and self.positives == "transport":
            raise ValueError(f"queue={self.queue}: positives='transport' are of the batch alone")

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> "MOVER":
        """The method for these features (shape of one example per modality).

        Raises:
          ValueError: the anchor is none of them, or they are too many for the sum over tuples.
        """
        if self.linear_start:
            check_linear_start(shapes)
        if self.anchor and self.anchor not in shapes:
            raise ValueError(f"anchor={self.anchor!r} is none of {', '.join(shapes)}")
        volume = self.measure == "volume" and self.weight_transport
        if volume and self.queue and self.groups == "all" and len(shapes) > 2:
            raise ValueError(f"queue={self.queue} needs groups='top' or 'sample', not 'all'")
        if volume and self.groups == "all" and len(shapes) > 3:
            raise ValueError(
                f"{len(shapes)} modalities need groups='top' or 'sample', not 'all', which sums "
                "over all tuples: give --config.method.groups=top"
            )
        if volume and self.plan in ("pairs", "multimarginal") and len(shapes) != 3:
            raise ValueError(f"plan={self.plan!r} is of three modalities, not {len(shapes)}")
        return self

    def check_batch(self, size: int) -> None:
        """Refuses more partners than a plan has, and a queue that is shorter than a batch."""
        if self.queue and self.queue < size:
            raise ValueError(f"method.queue={self.queue} cannot take a batch of {size} examples")
        drawn = self.measure == "volume" and self.weight_transport and self.groups == "top"
        if drawn and self.group_count > size + self.queue:
            raise ValueError(
                f"method.group_count={self.group_count}: an anchor has {size + self.queue} "
                f"possible partners, as many as a batch{' and the queue' if self.queue else ''}"
            )

    def towers(self, shapes: Shapes) -> Towers:
        return Towers(shapes, self.dim, self.layers, self.width, self.dropout, self.linear_start)

    def init(
        self, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], statistics: dict
    ) -> tuple[dict, dict]:
        """Parameters, and the state that no gradient changes: feature statistics, steps made."""
        example = {m: jnp.zeros(shape) for m, shape in shapes.items()}
        towers = self.towers(tuple(shapes.items()))
        params = {"towers": initialize(towers, key, example, train=False)["params"]}
        if self.learn_temperature:
            params["log_temperature"] = jnp.log(jnp.float32(self.temperature))
        state = {"statistics": jax.tree.map(jnp.asarray, statistics), "step": jnp.int32(0)}
        if self.queue:
            state["queue"] = matching.empty_queue(len(shapes), self.queue, self.dim)
        return params, state

    def start(self, training_set: FeatureSet) -> Callable[[dict], dict]:
        """Nothing is changed, or with `linear_start` what is linear begins at CCA."""
        if not self.linear_start:
            return lambda params: params
        begin = begin_at_cca(training_set, self.dim)
        return lambda params: params | {"towers": begin(params["towers"])}

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
        """Eq. 11 on this device's share of the batch; the state as it was; the terms to log."""
        names = sorted(batch["present"])  # the order in which mapped dictionaries arrive
        present = jnp.stack([batch["present"][m] for m in names])  # [modality, batch]
        keys = example_keys(key, present.shape[1], ("augment", "dropout"), axis_name)
        inputs = standardize(batch["features"], state["statistics"])
        vectors = self._encode(params, inputs, keys)  # eq. 2
        temperature = self._temperature(params)
        anchors = [names.index(self.anchor)] if self.anchor else [*range(len(names))]
        common = {"anchors": anchors, "key": key, "axis_name": axis_name}
        align = partial(
            self._align,
            present=present,
            temperature=temperature,
            queue=state.get("queue"),
            **common,
        )
        if self.warm_start:
            pairwise = partial(MOVER.pairwise()._align, queue=None)
            start = partial(pairwise, present=present, temperature=self.temperature, **common)
            zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(align, vectors)[1])
            begin = lambda v: (start(v)[0], zeros)  # type: ignore[call-arg]
            loss, terms = jax.lax.cond(state["step"] < self.warm_start, begin, align, vectors)  # type: ignore[call-arg]
        else:
            loss, terms = align(vectors)  # type: ignore[call-arg]
        if self.learn_temperature:
            terms["temperature"] = temperature
        after = state | {"step": state["step"] + 1}
        if self.queue:
            after["queue"] = matching.enqueue(
                state["queue"], vectors, present, state["step"], axis_name
            )
        return loss, (after, terms)

    def _align(self, vectors, *, present, anchors, temperature, queue, key, axis_name):
        """Eq. 11 of unit vectors [modality, batch, dim], and its terms.

        A term without weight is not computed.
        """
        count, mean = len(vectors), partial(losses.masked_mean, axis_name=axis_name)
        candidates = matching.Candidates(vectors, present, axis_name)
        if queue is not None:
            candidates = matching.with_queue(vectors, present, queue, axis_name)
        if self.measure == "volume":
            vectors = matching.stand_in(vectors, present)
            wide = matching.stand_in(candidates.vectors, candidates.present)
            candidates = candidates._replace(vectors=wide)
            orders = [[a, *(m for m in range(count) if m != a)] for a in anchors]
        else:
            orders = [[*p] for p in itertools.combinations(range(count), 2) if {*p} & {*anchors}]
        matched, terms = self._plans(candidates), {}
        # All orders in one call, which is a third of the program and of its small operations.
        if self.weight_transport:
            summed = self._summed(orders, count)
            values = self._transport(candidates, matched, summed, key)
            if queue is not None:
                values = matching.own_rows(values, vectors.shape[1], axis_name, axis=1)
            means = [mean(v, present[o[0]]) for v, o in zip(values, summed, strict=True)]
            terms["transport"] = sum(means) / len(means)  # eq. 8
            terms["mass_on_pairs"] = matching.mass_on_pairs(matched.plans)
            terms["plans_unconverged"] = matched.unconverged
        if self.weight_contrast:
            values, where = self._contrast(
                vectors, present, matched.plans, orders, temperature, axis_name
            )
            means = [mean(v, w) for v, w in zip(values, where, strict=True)]
            terms["contrast"] = sum(means) / len(means)  # eq. 10
        weights = {"transport": self.weight_transport, "contrast": self.weight_contrast}
        return sum(weight * terms[name] for name, weight in weights.items() if weight), terms

    def _summed(self, orders: list[list[int]], count: int) -> list[list[int]]:
        """The orders of modalities over which eq. 8 is averaged."""
        if self.queue:  # a batch is matched with more than itself: from either side another sum
            return orders if self.measure == "volume" else [*orders, *(o[::-1] for o in orders)]
        # The sum over all tuples is the same for every anchor, but for the anchor's own plan.
        once = self.measure == "volume" and (count == 2 or self.plan in ("pairs", "multimarginal"))
        return orders[:1] if once else orders

    def _encode(self, params, inputs, keys) -> Float[Array, "modality batch dim"]:
        towers = self.towers(shapes_of(inputs))

        def one(x, augment_key, dropout_key):
            x = augment(x, augment_key, noise=self.noise, gain=self.gain, warp=self.warp)
            variables, rngs = {"params": params["towers"]}, {"dropout": dropout_key}
            return towers.apply(variables, x, train=True, rngs=rngs)

        return losses.unit(jax.vmap(one, out_axes=1)(inputs, keys["augment"], keys["dropout"]))

    def _temperature(self, params) -> Float[Array, ""] | float:
        if not self.learn_temperature:
            return self.temperature
        return jnp.clip(jnp.exp(params["log_temperature"]), COLDEST, HOTTEST)

    def _plans(self, candidates: matching.Candidates) -> matching.Matched:
        """Eq. 4-5, or the factors of a plan over tuples, between all pairs of modalities."""
        if not self.weight_transport and self.positives == "paired":
            return matching.Matched(None, None)
        if self.plan == "given":
            return matching.given_pairs(candidates)
        if self.plan == "multimarginal" and self.measure == "volume":
            return matching.tuple_plan(candidates, epsilon=self.epsilon, iterations=self.iterations)
        return matching.pair_plans(
            candidates,
            epsilon=self.epsilon,
            iterations=self.iterations,
            gradient=self.plan_gradient,
        )

    def _transport(self, candidates, matched, orders, key) -> Float[Array, "order batch"]:
        """Eq. 8 for each anchor of each order; without volumes, ⟨π, C⟩ of the pairs."""
        vectors, _, axis_name = candidates
        anchor_only = self.plan in ("anchor", "given") or self.measure == "cosine"
        through = matched.plans if matched.tuples is None else matched.tuples.log_factors
        place = partial(matching.ordered, through, count=len(vectors), anchor_only=anchor_only)
        plans = jnp.stack([place(order) for order in orders])
        draws = jax.vmap(partial(jax.random.fold_in, key))(2 + jnp.arange(len(orders)))

        def one(vectors, plans, draw):
            if self.measure == "cosine":
                return matching.transport_cost(vectors, plans[:1], axis_name)
            if matched.tuples is not None:
                plans = matched.tuples._replace(log_factors=plans)
            elif self.groups == "top":
                plans = losses.top_groups(plans, count=self.group_count)
            elif self.groups == "sample":
                plans = losses.sample_groups(plans, key=draw, count=self.group_count)
            return losses.transport_volume_loss(vectors, plans, axis_name=axis_name)

        return jax.vmap(one)(vectors[jnp.array(orders)], plans, draws)

    def _contrast(self, vectors, present, plans, orders, temperature, axis_name):
        """Eq. 9 for each anchor, and who has one, each [order, batch].

        Without volumes, InfoNCE of the pairs.
        """
        chosen = jnp.array(orders)
        ordered = jnp.zeros((len(orders), 0))
        if self.positives == "transport":
            place = partial(matching.ordered, plans, count=len(vectors), anchor_only=True)
            ordered = jnp.stack([place(order) for order in orders])
        one = partial(self._contrast_of, temperature=temperature, axis_name=axis_name)
        return jax.vmap(one)(vectors[chosen], present[chosen], ordered)

    def _contrast_of(self, vectors, present, plans, *, temperature, axis_name):
        """Eq. 9 of one order: the first modality is the anchor."""
        where, composition = present[0] & present[1:].any(0), matching.composition(present[1:])
        anchors, *others = vectors
        if self.positives == "transport":
            others = matching.matched(vectors, plans, axis_name)
            composition = jnp.zeros_like(composition)  # what has mass has all that anybody has
        if self.measure == "cosine":
            value = losses.symmetric_info_nce(
                anchors, others[0], temperature=temperature, where=where, axis_name=axis_name
            )
            return value, where
        info_nce = lambda anchors, others: losses.volume_info_nce(
            anchors,
            *others,
            temperature=temperature,
            label_smoothing=self.label_smoothing,
            negatives_only=self.negatives_only,
            where=where,
            composition=composition,
            axis_name=axis_name,
        )
        if self.gathered_gradient:
            forward, backward = info_nce(anchors, others)
        else:
            fixed = jax.lax.stop_gradient((anchors, others))
            forward, backward = info_nce(anchors, fixed[1])[0], info_nce(fixed[0], others)[1]
        return (forward + backward) / 2 if self.both_directions else forward, where

    # -- readout -----------------------------------------------------------------------------

    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """Unit vectors of one modality."""
        inputs = standardize({modality: features}, state["statistics"])
        towers = self.towers(shapes_of(inputs))
        apply = lambda x: towers.apply({"params": params["towers"]}, x, train=False)
        return Embedding.of_vectors(losses.unit(jax.vmap(apply, out_axes=1)(inputs)[0]))
