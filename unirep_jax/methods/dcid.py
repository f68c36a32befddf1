"""DCID: what modalities share, told apart from what is particular to each.

Xia et al., "Achieving Cross Modal Generalization with Multimodal Unified Representation",
NeurIPS 2023; MICU's strongest baseline. Two encoders per modality, one for a sequence that is
quantised with the shared codebook, one for modality-specific features, trained by

    L = L_recon + L_commit + L_information + L_prediction + L_matching

of which L_information is CLUB's upper bound of the information that codes and specific features
share, L_prediction contrasts every modality's future with what every modality's past predicts
(Cross-CPC), and L_matching makes code distributions of an example alike (CMCM's loss). The codebook
is a moving average of all modalities (MM-EMA, eq. 9-10).

CLUB's variational network q(specific | code) has to be fitted to the features while the features
flee from it. ≠ the authors alternate: five steps of an optimiser of its own on q, then one on the
rest. Here one loss has both terms, the likelihood with constant features and the bound with a
constant q: every parameter gets the gradient of its own objective alone, and one optimiser, one
step and one checkpoint hold all there is. In both forms q has been fitted to the features of the
steps before; here it takes one step for their five.

≠ the authors' code, too: the bound compares with all other examples instead of one drawn for each,
at every step of time instead of averaged over it, and where it is negative over the batch, which
information cannot be, it counts as 0 (its gradient would only drive features away from a q that
has fallen behind). Predictions are made at every step instead of one, and choose among targets.
The cross-attention of eq. 9 is left out, as in the code.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unirep_jax import losses
from unirep_jax.methods.batch import shapes_of
from unirep_jax.methods.unified import CodebookMethod, Encoded, Terms, ordered_pairs
from unirep_jax.models.estimators import FuturePredictor, GaussianEstimator


@dataclasses.dataclass(frozen=True)
class DCID(CodebookMethod):
    """Hyper-parameters (those of the authors' code) and the functions made of them."""

    predicted_steps: int = 1  # K, how far ahead
    predict_own: float = 0.1  # weight of a modality's own future beside that of the others
    temperature: float = 1.0
    cosine: bool = False  # compare predictions and sequences by direction

    weight_reconstruction: float = 1.0
    weight_commitment: float = 1.0
    commitment_own: float = 0.5
    commitment_other: float = 0.125  # towards each other modality's code
    weight_information: float = 1.0
    weight_prediction: float = 1.0
    weight_matching: float = 1.0

    specific: ClassVar[bool] = True

    # -- modules -----------------------------------------------------------------------------

    def for_data(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> Self:
        """The method for these features, `time` settled.

        Raises:
          ValueError: sequences of several steps are too short for what is to be predicted.
        """
        method = super().for_data(shapes, classes)
        if method.predicted_steps >= method.time > 1:
            raise ValueError(
                f"predicted_steps={method.predicted_steps} of sequences of {method.time} steps"
            )
        return method

    def inert(self, shapes: Mapping[str, tuple[int, ...]], classes: int) -> list[str]:
        """L_prediction without a future."""
        if self.weight_prediction and self.time == 1:
            return ["prediction (sequences of one time step, nothing ahead)"]
        return []

    @property
    def estimator(self) -> GaussianEstimator:
        return GaussianEstimator(self.dim)

    @property
    def predictor(self) -> FuturePredictor:
        return FuturePredictor(self.predicted_steps)

    def init_heads(self, key: Key[Array, ""], modalities: int) -> dict:
        """q and, of sequences, the predictor of every modality, along a first axis."""
        example = jnp.zeros((self.time, self.dim))
        modules = {"estimator": self.estimator}
        if self.time > 1:
            modules["predictor"] = self.predictor
        keys = jax.random.split(key, (len(modules), modalities))
        return {
            name: jax.vmap(lambda k, module=module: module.init(k, example)["params"])(k)
            for (name, module), k in zip(modules.items(), keys, strict=True)
        }

    # -- loss --------------------------------------------------------------------------------

    def loss(
        self,
        params: dict,
        state: dict,
        batch: dict,
        *,
        key: Key[Array, ""],
        axis_name: str | None = None,
    ) -> tuple[Float[Array, ""], tuple[dict, Terms]]:
        """The loss on this device's share of the batch; the state after it; the terms to log."""
        encoded = self.encode(params, state, batch, key, axis_name)
        specific = self._specific(params, encoded)
        terms = {
            "reconstruction": self.reconstruction(params, encoded.quantized, encoded),
            "commitment": self.commitment(
                encoded, own=self.commitment_own, other=self.commitment_other
            ),
            "information": self._information(params, specific, encoded, axis_name),
            "prediction": self._prediction(params, encoded, axis_name),
            "matching": self.matching(state, encoded, axis_name),
        }
        fit = self._fit(params, specific, encoded)
        state, health = self.next_state(state, encoded, key, axis_name)
        return self.weighted(terms) + fit, (state, terms | {"fit": fit} | health)

    def _specific(self, params: dict, encoded: Encoded) -> Float[Array, "m batch time dim"]:
        """Modality-specific features, those from which reconstruction also decodes."""
        network, variables = self.network(shapes_of(encoded.inputs)), {"params": params["network"]}
        read = lambda x: network.apply(variables, x, method="specific_features")
        return jax.vmap(read, out_axes=1)(encoded.inputs)

    def _estimate(self, estimator: dict, codes: Float[Array, "m batch time dim"]) -> tuple:
        """q's means and log-variances, each [modality, batch, time, dim]."""
        apply = lambda params, x: self.estimator.apply({"params": params}, x)
        return jax.vmap(jax.vmap(apply, in_axes=(None, 0)))(estimator, codes)

    def _information(self, params, specific, encoded, axis_name) -> Float[Array, ""]:
        """Σ over modalities of what codes and specific features share, q being constant."""
        estimate = self._estimate(jax.lax.stop_gradient(params["estimator"]), encoded.quantized)
        total = jnp.zeros(())
        for m, present in enumerate(encoded.present):
            bound = losses.club_upper_bound(
                specific[m], estimate[0][m], estimate[1][m], where=present, axis_name=axis_name
            )
            share = encoded.mean(bound.mean(-1), present)
            whole = jax.lax.stop_gradient(share)
            if axis_name is not None:
                whole = jax.lax.pmean(whole, axis_name)
            total += jnp.where(whole > 0, share, 0)
        return total

    def _fit(self, params, specific, encoded) -> Float[Array, ""]:
        """−log q per dimension, Σ over modalities, features being constant."""
        codes, specific = jax.lax.stop_gradient((encoded.quantized, specific))
        likelihood = (
            losses.gaussian_log_likelihood(
                specific, *self._estimate(params["estimator"], codes)
            ).mean(-1)
            / self.dim
        )
        return -sum(encoded.mean(v, p) for v, p in zip(likelihood, encoded.present, strict=True))

    def _prediction(self, params, encoded, axis_name) -> Float[Array, ""]:
        """Σ over pairs of modalities of the loss of predicting one from the other; 0 of vectors."""
        if self.time == 1:
            return jnp.zeros(())
        apply = lambda params, z: self.predictor.apply({"params": params}, z)
        predictions = jax.vmap(jax.vmap(apply, in_axes=(None, 0)))(params["predictor"], encoded.z)
        direction = losses.unit if self.cosine else (lambda vectors: vectors)
        value = losses.cross_predictive_coding(
            direction(predictions),
            direction(encoded.z),
            temperature=self.temperature,
            where=encoded.present,
            axis_name=axis_name,
        )
        average = lambda pair: encoded.mean(value[pair], encoded.both[pair])
        modalities = len(encoded.z)
        total = sum(map(average, ordered_pairs(modalities)), jnp.zeros(()))
        return total + self.predict_own * sum(average((m, m)) for m in range(modalities))
