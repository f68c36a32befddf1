"""Learners of a modality that was never aligned: what COX is compared with, and what they share.

Out-of-modal generalisation (COX, ICLR 2025): a learner g from scratch, a linear head h on it, a few
labelled examples and many without label. Batches are of pools: "labelled" (all modalities and the
label), "unlabelled" (the out-of-modal modality alone), "in_modal" (the others, with label). All of
these methods have the same g and h and the same augmentation; with H for cross-entropy,

    | method     | loss                                                                       |
    |------------|----------------------------------------------------------------------------|
    | random     | 0                                                                          |
    | erm        | H(y, h(x)) on labelled examples                                            |
    | supervised | the same where the protocol labels everything: an upper bound              |
    | entmin     | + λ entropy(h(u)) (Grandvalet and Bengio, 2004)                            |
    | ssl        | + λ KL(h(u) ‖ h(u + noise)), what is clean held fixed                      |
    | moco       | + λ InfoNCE(view of u, another view by the averaged network) (He, 2020)    |
    | freematch  | + H(pseudo-label, h(strong u)) above adaptive thresholds + fairness (2023) |
    | mixtext    | all labels sharpened guesses, hidden states mixed (Chen, 2020)             |

moco has entmin's term, too, as in the paper, where there are labels. In the unsupervised setting
the first term falls away; random, ssl and moco remain, and their features are evaluated by clusters
and a linear probe. None of these but COX uses the in-modal pool.

≠ FreeMatch, MixText: their augmentations are of images and of texts; weak is that of training here,
strong is `strong` times as much. MixText mixes behind BERT's layers 7, 9 or 12 of 12; here behind
the same shares of the learner's blocks.
"""

import dataclasses
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array

from unirep_jax import losses
from unirep_jax.methods.out_of_modal_learner import (
    POOLS,
    OutOfModalLearner,
    Terms,
    linear,
    linear_head,
    pool_keys,
)


class Random(OutOfModalLearner):
    """No training."""

    def terms(self, params, state, batch, key, axis_name):
        return {}, state, {}


@dataclasses.dataclass(frozen=True)
class ERM(OutOfModalLearner):
    """Cross-entropy on labelled examples alone; the other methods add their terms to it."""

    def terms(self, params, state, batch, key, axis_name):
        if "labelled" not in batch:
            return {}, state, {}
        terms, _ = self.labelled(params, state, batch["labelled"], key, axis_name)
        return terms, state, {}

    def labelled(self, params, state, pool, key, axis_name) -> tuple[Terms, Array]:
        """The term of the labelled examples, and their features."""
        keys = pool_keys(key, "labelled", pool, axis_name)
        z = self.encode(params, self.inputs(state, pool), keys)
        return {"classification": (1.0, self.classification(params, z, pool, axis_name))}, z

    def unlabelled(self, state, batch, key, axis_name, purposes=()):
        """Standardised features without label, keys of their examples, and the mean over them.

        None where the protocol has labelled everything.
        """
        if "unlabelled" not in batch:
            return None
        pool = batch["unlabelled"]
        keys = pool_keys(key, "unlabelled", pool, axis_name, purposes)
        where = pool["present"][self.modality]
        mean = lambda loss: losses.masked_mean(loss, where, axis_name=axis_name)
        return self.inputs(state, pool), keys, mean


class Supervised(ERM):
    """The same; the protocol labels all training examples: an upper bound."""


@dataclasses.dataclass(frozen=True)
class EntMin(ERM):
    """Predictions without label are made sure."""

    weight_entropy: float = 0.1

    def terms(self, params, state, batch, key, axis_name):
        terms, state, shown = super().terms(params, state, batch, key, axis_name)
        there = self.unlabelled(state, batch, key, axis_name)
        if there:
            x, keys, mean = there
            entropy = losses.entropy(linear(params["head"], self.encode(params, x, keys)))
            terms["entropy"] = (self.weight_entropy, mean(entropy))
        return terms, state, shown


@dataclasses.dataclass(frozen=True)
class SSL(ERM):
    """Predictions stay where Gaussian noise is added to the input."""

    weight_consistency: float = 1.0
    perturbation: float = 0.1  # standard deviation, of standardised features

    def terms(self, params, state, batch, key, axis_name):
        terms, state, shown = super().terms(params, state, batch, key, axis_name)
        there = self.unlabelled(state, batch, key, axis_name, ("perturbation",))
        if there:
            x, keys, mean = there
            # Of the augmented example, as labelled ones are: else a network may predict one class
            # for all that is not augmented, which is consistent.
            clean = self.augmented(x, keys["augment"])
            draw = lambda x, key: x + self.perturbation * jax.random.normal(key, x.shape)
            noisy = jax.vmap(draw)(clean, keys["perturbation"])
            logits = [
                linear(params["head"], self.apply(params, v, keys["dropout"]))
                for v in (clean, noisy)
            ]
            divergence = losses.target_divergence(jax.nn.softmax(logits[0]), logits[1])
            terms["consistency"] = (self.weight_consistency, mean(divergence))
        return terms, state, shown


@dataclasses.dataclass(frozen=True)
class MoCo(EntMin):
    """Two views of an example are alike, one of them seen by a running average of the network."""

    weight_contrast: float = 1.0
    temperature: float = 0.07
    momentum: float = 0.99  # the paper's 0.999 is for 200 epochs of a million images
    slots: int = 1024  # of the queue
    projection: int = 128

    def init(self, key, shapes, statistics):
        """As the other methods, with a projection, running averages and a queue."""
        params, state = super().init(key, shapes, statistics)
        params["projection"] = linear_head(jax.random.fold_in(key, 2), self.dim, self.projection)
        queue = jax.random.normal(jax.random.fold_in(key, 3), (self.slots, self.projection))
        average = {"learner": params["learner"], "projection": params["projection"]}
        return params, state | {"average": average, "queue": losses.unit(queue)}

    def terms(self, params, state, batch, key, axis_name):
        entropy = EntMin.terms if "labelled" in batch else ERM.terms
        terms, state, shown = entropy(self, params, state, batch, key, axis_name)
        there = self.unlabelled(state, batch, jax.random.fold_in(key, 1), axis_name, ("view",))
        if there:
            x, keys, mean = there
            mix = lambda old, new: self.momentum * old + (1 - self.momentum) * new
            average = jax.tree.map(mix, state["average"], {k: params[k] for k in state["average"]})
            other = {"augment": keys["view"], "dropout": keys["dropout"]}
            query = losses.unit(linear(params["projection"], self.encode(params, x, keys)))
            view = losses.unit(linear(average["projection"], self.encode(average, x, other)))
            contrast = losses.momentum_contrast(
                query, view, state["queue"], temperature=self.temperature
            )
            terms["contrast"] = (self.weight_contrast, mean(contrast))
            queue = losses.enqueue(state["queue"], view, state["step"], axis_name=axis_name)
            state = state | {"average": jax.lax.stop_gradient(average), "queue": queue}
        return terms, state, shown


@dataclasses.dataclass(frozen=True)
class FreeMatch(ERM):
    """A sure prediction for the weakly augmented example labels the strongly augmented one."""

    weight_pseudo: float = 1.0
    weight_fairness: float = 0.01
    momentum: float = 0.99
    strong: float = 2.0  # times the augmentation of training

    def init(self, key, shapes, statistics):
        """As the other methods, with the statistics of the thresholds."""
        params, state = super().init(key, shapes, statistics)
        return params, state | {"thresholds": losses.AdaptiveThresholds.initial(self.classes)}

    def terms(self, params, state, batch, key, axis_name):
        terms, state, shown = super().terms(params, state, batch, key, axis_name)
        there = self.unlabelled(state, batch, key, axis_name, ("weak",))
        if there:
            x, keys, mean = there
            where = batch["unlabelled"]["present"][self.modality]
            weakly = {"augment": keys["weak"], "dropout": keys["dropout"]}
            weak = jax.lax.stop_gradient(linear(params["head"], self.encode(params, x, weakly)))
            thresholds = losses.update_thresholds(
                state["thresholds"], weak, momentum=self.momentum, where=where, axis_name=axis_name
            )
            labels = losses.pseudo_labels(thresholds, weak)
            logits = linear(params["head"], self.encode(params, x, keys, strength=self.strong))
            terms["pseudo"] = (self.weight_pseudo, mean(losses.pseudo_label_loss(labels, logits)))
            fairness = losses.fairness(
                thresholds, logits, where=labels.where & where, axis_name=axis_name
            )
            terms["fairness"] = (self.weight_fairness, fairness)
            shown = {"sure": mean(labels.where.astype(jnp.float32))}
            state = state | {"thresholds": thresholds}
        return terms, state, shown


@dataclasses.dataclass(frozen=True)
class MixText(ERM):
    """Hidden states and labels of pairs of examples are mixed; labels are guessed where unknown."""

    weight_guess: float = 1.0
    ramp: int = 100  # steps until that
    sharpness: float = 0.5  # temperature of the guesses
    concentration: float = 0.75  # of the Beta distribution of the mixing coefficient

    def mixing_depths(self) -> tuple[int, ...]:
        """Numbers of blocks behind which states may be mixed: 7, 9 and 12 of every 12 (TMix)."""
        return tuple(sorted({max(1, round(self.layers * share)) for share in (7 / 12, 9 / 12, 1)}))

    def terms(self, params, state, batch, key, axis_name):
        if "labelled" not in batch:
            return {}, state, {}
        pool = batch["labelled"]
        keys = {"labelled": pool_keys(key, "labelled", pool, axis_name)}
        one_hot = jax.nn.one_hot(pool["label"], self.classes)
        sides = {"labelled": (self.inputs(state, pool), one_hot)}
        there = self.unlabelled(state, batch, key, axis_name, ("view",))
        if there:
            x, keys["unlabelled"], _ = there
            views = (keys["unlabelled"]["augment"], keys["unlabelled"]["view"])
            logits = [
                linear(params["head"], self.apply(params, self.augmented(x, k))) for k in views
            ]
            guess = sum(jax.nn.softmax(v) for v in logits) / len(logits)
            guess = losses.sharpen(guess, temperature=self.sharpness)
            sides["unlabelled"] = (x, jax.lax.stop_gradient(guess))
        depths = self.mixing_depths()
        drawn = jax.random.randint(jax.random.fold_in(key, len(POOLS) + 1), (), 0, len(depths))

        def part(name, x, keys):  # of the learner, up to the depth drawn or beyond it
            run = lambda depth: lambda x: self.apply(params, x, keys, method=name, depth=depth)
            return jax.lax.switch(drawn, [run(depth) for depth in depths], x)

        hidden = {
            n: part("hidden", self.augmented(x, keys[n]["augment"]), keys[n]["dropout"])
            for n, (x, _) in sides.items()
        }
        mixed = _mixed(
            {n: (hidden[n], target) for n, (_, target) in sides.items()},
            key,
            self.concentration,
            axis_name,
        )
        terms = {}
        for n, (state_, target) in mixed.items():
            z = part("readout", state_, keys[n]["dropout"])
            loss = losses.target_divergence(target, linear(params["head"], z))
            where = batch[n]["present"][self.modality]
            terms[n] = losses.masked_mean(loss, where, axis_name=axis_name)
        grown = jnp.minimum(1.0, state["step"].astype(jnp.float32) / self.ramp)
        weights = {"labelled": 1.0, "unlabelled": self.weight_guess * grown}
        return {f"mixed_{n}": (weights[n], value) for n, value in terms.items()}, state, {}


def _mixed(sides: dict, key, concentration: float, axis_name: str | None) -> dict:
    """Every example of every pool mixed with a partner drawn from all of them, on all devices."""
    everything = sides
    if axis_name is not None:
        everything = jax.lax.all_gather(sides, axis_name, tiled=True)
    names = [n for n in POOLS if n in sides]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *(everything[n] for n in names))
    key, share_key = jax.random.split(jax.random.fold_in(key, len(POOLS)))
    partner = jax.random.permutation(key, len(joined[1]))
    share = jax.random.beta(share_key, concentration, concentration)
    share = jnp.maximum(share, 1 - share)
    result, start = {}, 0
    for n in names:
        own = len(sides[n][1])
        first = start if axis_name is None else start + jax.lax.axis_index(axis_name) * own
        chosen = jax.lax.dynamic_slice_in_dim(partner, first, own)
        partners = jax.tree.map(operator.itemgetter(chosen), joined)
        result[n] = jax.tree.map(lambda x, y: share * x + (1 - share) * y, sides[n], partners)
        start += len(everything[n][1])
    return result


BASELINES = {
    "random": Random,
    "erm": ERM,
    "supervised": Supervised,
    "entmin": EntMin,
    "ssl": SSL,
    "moco": MoCo,
    "freematch": FreeMatch,
    "mixtext": MixText,
}
