"""Which events go on when: a probe of each second, trained on one modality, tested on another.

The AVVP and AVE-to-AVVP tasks of cross-modal generalisation (Xia et al., NeurIPS 2023). ≠ the
authors' code: the encoder is in evaluation mode while the probe trains; cross-entropy of each class
alone, without their second term −Σ_c y_c log softmax(x)_c exp(−α_c) with a learnt α, which falls
without bound in α; and no epoch is chosen on the test set.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax import metrics
from unirep_jax.data.prepared import EventLabels
from unirep_jax.evaluation.embedding import Representation
from unirep_jax.evaluation.probe import RANGES
from unirep_jax.metrics.published import cmg_segment_f1
from unirep_jax.ranges import check_number

Row = dict[str, Any]  # the fields of a Measurement that a protocol knows


@dataclasses.dataclass(frozen=True)
class EventProbe:
    """Linear(dim → hidden), Linear(hidden → classes), each second alone; binary cross-entropies.

    Trained with AdamW. The authors train 30 epochs with Adam at 4e-4 in batches of 80 clips;
    `steps` counts batches.
    """

    hidden: int = 256
    steps: int = 600
    batch_size: int = 80
    lr: float = 2e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            check_number(f"event_probe.{name}", getattr(self, name), allowed)

    @partial(jax.jit, static_argnums=(0,))
    def fit(
        self,
        key: Key[Array, ""],
        table: Float[Array, "row dim"],
        indices: Int[Array, "example time"],
        active: Bool[Array, "example time class"],
    ) -> dict[str, Float[Array, "..."]]:
        """Parameters after training on these examples, drawn with replacement."""
        first, second, key = jax.random.split(key, 3)
        init = jax.nn.initializers.lecun_normal()
        classes = active.shape[2]
        params = {
            "hidden_kernel": init(first, (table.shape[1], self.hidden)),
            "hidden_bias": jnp.zeros(self.hidden),
            "output_kernel": init(second, (self.hidden, classes)),
            "output_bias": jnp.zeros(classes),
        }
        optimizer = optax.adamw(
            optax.cosine_decay_schedule(self.lr, self.steps), weight_decay=self.weight_decay
        )

        def step(carry, step_key):
            params, opt_state = carry
            rows = jax.random.randint(step_key, (self.batch_size,), 0, indices.shape[0])

            def loss(params):
                logits = self.logits(params, table, indices[rows])
                target = active[rows].astype(logits.dtype)
                return optax.sigmoid_binary_cross_entropy(logits, target).mean()

            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        keys = jax.random.split(key, self.steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return params

    @partial(jax.jit, static_argnums=(0,))
    def logits(
        self,
        params: dict[str, Float[Array, "..."]],
        table: Float[Array, "row dim"],
        indices: Int[Array, "example time"],
    ) -> Float[Array, "example time class"]:
        """Class scores of every second."""
        # A codebook has fewer codes than there are seconds: each code is scored once.
        hidden = table @ params["hidden_kernel"] + params["hidden_bias"][None]
        scores = hidden @ params["output_kernel"] + params["output_bias"][None]
        return scores[indices]


def localize_events(
    representation: Representation,
    feature_set,
    events: EventLabels,
    *,
    probe: EventProbe,
    seed: int,
    across: bool = True,
) -> Iterator[Row]:
    """F1 on the test split for every ordered pair of modalities, and within each.

    The probe has a background class, as the authors', active where no event is. Metrics:
    `segment_*` pools seconds and classes, without background; `event_f1` compares whole events;
    `any_event_f1` asks only when anything goes on; `published_*` is what the authors print, with
    background. A target `a+b` is what goes on in both at once.

    Args:
      representation: codes of every example of the feature set, one for each second.
      feature_set: splits and which modalities are present.
      events: of its examples; one without labels in a modality is left out there.
      probe: settings.
      seed: of its training.
      across: whether modalities are compared; False for within each alone.

    Raises:
      ValueError: the codes and the events differ in their seconds, or a modality has no labelled
        example in a split.
    """
    names = tuple(m for m in feature_set.modalities if m in events.events)
    for m in names:
        _check_seconds(m, representation.indices[m], events.events[m])
    for source in names:
        rows = _labelled(feature_set, events, source, train=True)
        target = metrics.with_background(events.events[source][rows])
        params = probe.fit(
            jax.random.key(seed),
            representation.table[source],
            representation.indices[source][rows],
            jnp.asarray(target),
        )
        said = {}
        for target in names if across else (source,):
            test = _labelled(feature_set, events, target, train=False)
            codes = representation.indices[target][test]
            logits = probe.logits(params, representation.table[target], codes)
            said[target] = test, metrics.active_segments(np.asarray(logits))
            values = _scores(events.events[target][test], said[target][1])
            yield from _rows(source, target, values, len(test))
        for one, other in itertools.combinations(said, 2):
            yield from _both(source, one, other, events, said)


def _both(source: str, one: str, other: str, events: EventLabels, said: dict) -> Iterator[Row]:
    """What goes on in two modalities at once, on the test examples that have labels in both."""
    (rows_a, said_a), (rows_b, said_b) = said[one], said[other]
    rows, place_a, place_b = np.intersect1d(rows_a, rows_b, return_indices=True)
    if len(rows):
        true = events.events[one][rows] & events.events[other][rows]
        found = said_a[place_a, :, :-1] & said_b[place_b, :, :-1]
        values = {
            "segment_f1": metrics.segment_f1(true, found).f1,
            "event_f1": metrics.event_f1(true, found).f1,
        }
        yield from _rows(source, f"{one}+{other}", values, len(rows))


def _scores(true: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """All metrics, of labels without background and predictions with it."""
    found = said[..., :-1]
    anything = lambda x: x.any(-1, keepdims=True)
    segment = metrics.segment_f1(true, found)
    published = cmg_segment_f1(metrics.with_background(true), said)
    return {
        **{f"segment_{name}": value for name, value in segment._asdict().items()},
        "event_f1": metrics.event_f1(true, found).f1,
        "any_event_f1": metrics.segment_f1(anything(true), anything(found)).f1,
        **{f"published_{name}": value for name, value in published._asdict().items()},
    }


def _rows(source: str, target: str, values: dict[str, float], count: int) -> Iterator[Row]:
    for metric, value in values.items():
        yield {
            "split": "all",
            "source": source,
            "target": target,
            "metric": metric,
            "value": value,
            "num_examples": count,
            "selection": "none",
        }


def _labelled(feature_set, events: EventLabels, modality: str, *, train: bool) -> np.ndarray:
    keep = (feature_set.train == train) & feature_set.present[modality]
    rows = np.flatnonzero(keep & events.labelled[modality])
    if not len(rows):
        part = "training" if train else "test"
        raise ValueError(f"no {part} example has events labelled in {modality!r}")
    return rows


def _check_seconds(modality: str, codes: Int[Array, "example time"], events: np.ndarray) -> None:
    if codes.shape[:2] != events.shape[:2]:
        raise ValueError(
            f"{modality}: codes of shape {codes.shape} do not fit events of shape {events.shape}"
        )
