"""What a method offers: the contract between methods, training, tasks and users.

A method is a frozen dataclass of hyper-parameters whose functions are pure. It says what it can do
by the classes that it derives from, and what it learns from by `batches`:

    | class                | it can                                                              |
    |----------------------|---------------------------------------------------------------------|
    | Method               | be made for a data set                                              |
    | TrainedMethod        | be trained by gradients of `loss`                                   |
    | StartedMethod        | begin at parameters in closed form, and be trained from there       |
    | SolvedMethod         | be fitted in closed form                                            |
    | RepresentationMethod | embed every modality in one space (`embed`)                         |
    | ClassifyingMethod    | predict labels itself (`classify`)                                  |
    | RefreshingMethod     | look at all examples between steps                                  |
    | EncodedMethod        | train on what frozen encoders make of the features                  |

A task asks for classes (`unirep_jax.tasks.task`), so a pair that does not fit is refused by type.
"""

import abc
import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import losses, metrics
from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import Kind
from unirep_jax.data.resident import Pool, Whole
from unirep_jax.methods.ranges import check_settings

Shapes = Mapping[str, tuple[int, ...]]  # by modality, of one example
Values = Array | np.ndarray  # of JAX in a method, of NumPy where a model is used


class Batches(enum.Enum):
    """What a method's loss reads."""

    PAIRED = "examples of several modalities without labels"
    LABELLED = "examples of several modalities with labels"
    POOLED = "pools of labelled, unlabelled and in-modal examples"


class Embedding(NamedTuple):
    """What a representation method makes of a batch of one modality.

    sequence: [batch, time, dim], entries of order one, `time` 1 where the method makes vectors; a
    probe reads it. vector: [batch, dim], unit length, or zero where nothing is left to scale;
    retrieval compares it. codes: [batch, time], the entries of the codebook that the sequence is
    made of; None of a method without one.
    """

    sequence: Float[Values, "batch time dim"]
    vector: Float[Values, "batch dim"]
    codes: Int[Values, "batch time"] | None = None

    @classmethod
    def of_vectors(cls, vector: Float[Array, "batch dim"]) -> "Embedding":
        """Of unit vectors: the sequence is one step, scaled so that its entries have variance 1."""
        return cls(vector[:, None] * vector.shape[1] ** 0.5, vector)


class Decision(NamedTuple):
    """What a classifying method says of a batch, by one source: one or several modalities.

    logits: [batch, class]; the largest is the predicted class. features: [batch, dim], that the
    decision rests on. present: [batch], whether there was anything to decide by. values: what
    `known_scores` is computed from. gates: [batch, expert], of a mixture of experts. mapped, votes:
    of in-modal networks (COX), by modality [batch, dim] and [batch, head, class].
    """

    logits: Float[Values, "batch class"]
    features: Float[Values, "batch dim"]
    present: Bool[Values, "batch"]
    values: Values | None = None
    gates: Float[Values, "batch expert"] | None = None
    mapped: Mapping[str, Float[Values, "batch dim"]] | None = None
    votes: Float[Values, "batch head class"] | None = None


class Method(abc.ABC):
    """Hyper-parameters, and what they make of a data set."""

    batches: ClassVar[Batches] = Batches.PAIRED

    def __post_init__(self) -> None:
        check_settings(self)

    def settings(self) -> dict[str, Any]:
        """All hyper-parameters by name; the method is made of them again."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def for_features(self, feature_set: FeatureSet) -> Self:
        """The method with what it takes from a feature set filled in.

        Raises:
          ValueError: as `for_data`; or a modality holds word ids, of which only a method that
            learns an embedding of words can make anything.
        """
        words = [m for m, kind in feature_set.kinds.items() if kind is Kind.WORDS]
        if words:
            raise ValueError(
                f"{words[0]} holds word ids, and {type(self).__name__} learns no embedding of "
                "words: extract texts as vectors (words,dim=64, or an encoder of texts), or leave "
                "them out by data.modalities"
            )
        shapes = {m: x.shape[1:] for m, x in feature_set.features.items()}
        return self.for_data(shapes, feature_set.num_classes)

    def encoders(self, shapes: Shapes) -> Mapping[str, str]:
        """What reads a modality, where its kind decides that, by modality; for a run's log."""
        return {}

    @abc.abstractmethod
    def for_data(self, shapes: Shapes, classes: int) -> Self:
        """The method with what it takes from the data filled in.

        Args:
          shapes: per modality the shape of one example.
          classes: number of classes, for methods that predict them.

        Raises:
          ValueError: the method cannot be made for these data, in one line.
        """


class TrainedMethod(Method):
    """A method that gradients train.

    cross_entropies: logged terms that choose among alternatives, and teach nothing more near 0.
    """

    cross_entropies: ClassVar[tuple[str, ...]] = ()

    def inert(self, shapes: Shapes, classes: int) -> list[str]:
        """Terms of the loss that cannot act on data of these shapes, each with its reason."""
        return []

    def check_batch(self, size: int) -> None:
        """Refuses batches of so many examples, over all devices, that the loss cannot work with.

        Raises:
          ValueError: in one line; by default never.
        """
        return None

    @property
    def part_of(self) -> Callable[[tuple[str, ...]], str] | None:
        """Path of a parameter -> the part whose gradient is clipped with its own, "" for none.

        None where all are clipped as one, the default.
        """
        return None

    def for_examples(self, training_set: FeatureSet) -> Self:
        """The method with what it measures on the training examples: by default nothing.

        Called after `for_data`, before `init`. Raises ValueError: the examples do not fit it.
        """
        return self

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], shapes: Shapes, statistics: dict) -> tuple[dict, dict]:
        """Parameters, and the state that no gradient changes.

        Args:
          key: randomness.
          shapes: per modality the shape of one example.
          statistics: per modality (mean, std), each [channels], of the training features.
        """

    @abc.abstractmethod
    def loss(
        self,
        params: dict,
        state: dict,
        batch: dict,
        *,
        key: Key[Array, ""],
        axis_name: str | None = None,
    ) -> tuple[Float[Array, ""], tuple[dict, dict[str, Float[Array, ""]]]]:
        """The loss of this device's share of the batch; the state after the step; terms to log."""


class StartedMethod(TrainedMethod):
    """A method whose training may begin at a solution in closed form."""

    @abc.abstractmethod
    def start(self, training_set: FeatureSet) -> Callable[[dict], dict]:
        """What makes of the parameters of `init` those that training begins at.

        Solved when it is called; what it returns is pure and may be traced.
        """


class SolvedMethod(Method):
    """A method without training steps: its parameters are a function of the training examples."""

    @abc.abstractmethod
    def solve(self, training_set: FeatureSet) -> tuple[dict, dict]:
        """Parameters and state, as `TrainedMethod.init` gives them, fitted in closed form."""


class RepresentationMethod(Method):
    """A method that embeds every modality.

    common_space: whether vectors of different modalities can be compared.
    """

    common_space: ClassVar[bool] = True

    @abc.abstractmethod
    def embed(
        self, params: dict, state: dict, modality: str, features: Float[Array, "batch ..."]
    ) -> Embedding:
        """Embeddings of raw features of one modality: no dropout, no augmentation."""

    def codebook(self, state: dict) -> Float[Array, "code dim"] | None:
        """The vectors that sequences are made of; None without a codebook."""
        return None


class ClassifyingMethod(Method):
    """A method that predicts labels itself."""

    @abc.abstractmethod
    def classify(
        self,
        params: dict,
        state: dict,
        features: Mapping[str, Float[Array, "batch ..."]],
        present: Mapping[str, Bool[Array, "batch"]],
    ) -> dict[str, Decision]:
        """Decisions by source: the modalities that one rests on, sorted and joined by "+"."""

    def known_scores(self, params: dict, decision: Decision) -> Float[np.ndarray, "example"]:
        """How known each example looks, float64, higher = more known: the largest probability."""
        return metrics.max_softmax(np.asarray(decision.logits))


class RefreshingMethod(TrainedMethod):
    """A method that looks at all examples of its pools now and then.

    refresh_every: steps between two looks, 0 for never on these pools.
    """

    refresh_every: int

    @abc.abstractmethod
    def for_pools(self, pools: Mapping[str, Pool], steps: int) -> Self:
        """The method for these pools and so many steps of training, `refresh_every` settled.

        Raises:
          ValueError: it does not fit them.
        """

    @abc.abstractmethod
    def refresh(self, params: dict, state: dict, wholes: Mapping[str, Whole]) -> dict:
        """The state made of all examples."""


class Encoded(NamedTuple):
    """Features as frozen encoders see them.

    data: the feature set of their embeddings, by stream. routes: per raw modality the ways into the
    method, each an encoder, or None for features as they are, and the stream that it gives.
    """

    data: FeatureSet
    routes: dict[str, tuple[tuple[Any, str], ...]]


Pretrain = Callable[..., Any]
"""(data, modalities, rows, *, seed) -> a model of `unirep_jax.model` whose `embed` gives vectors,
trained by contrast of these modalities on the examples `rows` (bool) of the data."""


class EncodedMethod(Method):
    """A method that is trained on embeddings of frozen encoders instead of raw features."""

    @abc.abstractmethod
    def encoded(self, data: FeatureSet, pretrain: Pretrain, seed: int) -> Encoded:
        """What the method trains on; data that are embeddings already pass as they are.

        Raises:
          ValueError: the data lack what the method needs, for instance a shared modality.
        """


def unit_mean(sequence: Float[Array, "batch time dim"]) -> Float[Array, "batch dim"]:
    """The mean over time, scaled to length 1; zero where the steps cancel."""
    return losses.unit(jnp.mean(sequence, axis=1))
