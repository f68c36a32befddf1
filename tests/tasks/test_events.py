"""Events in time from codes whose right answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unirep_jax import metrics
from unirep_jax.data import FeatureSet
from unirep_jax.data.prepared import EventLabels
from unirep_jax.evaluation.embedding import Representation
from unirep_jax.evaluation.measurements import Measurement
from unirep_jax.tasks.transfer.events import EventProbe, localize_events

pytestmark = pytest.mark.usefixtures("standard_promotion")

PROBE = EventProbe(hidden=16, steps=200, batch_size=20, lr=2e-2)
CLIPS, TIME, CLASSES = 40, 6, 3


def case():
    """Code c < 3: class c alone is active; code 3: nothing; code 4: classes 0 and 1 at once."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, (CLIPS, TIME))
    meaning = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    features = {m: np.zeros((CLIPS, 1), np.float32) for m in ("audio", "video")}
    train = np.arange(CLIPS) < 25
    data = FeatureSet.from_arrays(
        "clips", features, np.full(CLIPS, -1), train, class_names=("a", "b", "c")
    )
    everywhere = {m: np.ones(CLIPS, bool) for m in features}
    events = EventLabels(dict.fromkeys(features, meaning[codes]), everywhere)
    codebook = jnp.asarray(rng.normal(size=(7, 8)), jnp.float32)
    indices = dict.fromkeys(features, jnp.asarray(codes))
    representation = Representation(dict.fromkeys(features, codebook), indices, {}, codebook)
    return representation, data, events


def table(*args, probe=PROBE, seed=0):
    rows = list(localize_events(*args, probe=probe, seed=seed))
    return {(r["source"], r["target"], r["metric"]): r for r in rows}


def test_shared_codes_find_every_event_in_the_other_modality():
    found = table(*case())
    directions = {(s, t) for s, t, _ in found}
    sides = ("audio", "video", "audio+video")
    assert directions == {(s, t) for s in ("audio", "video") for t in sides}
    for (_, target, metric), row in found.items():
        assert row["value"] == 1, metric
        assert row["num_examples"] == 15
        Measurement(experiment="events", method="m", dataset="d", seed=0, **row)
        assert "+" not in target or metric in ("segment_f1", "event_f1")


def test_codes_that_mean_nothing_in_the_other_modality_find_little():
    representation, data, events = case()
    noise = jnp.asarray(np.random.default_rng(1).integers(0, 5, (CLIPS, TIME)))
    codes = {"audio": representation.indices["audio"], "video": noise}
    found = table(representation._replace(indices=codes), data, events)
    assert found["audio", "audio", "segment_f1"]["value"] == 1
    assert found["audio", "video", "segment_f1"]["value"] < 0.6
    assert found["audio", "audio+video", "segment_f1"]["value"] < 0.8


def test_the_values_are_those_of_the_metrics():
    representation, data, events = case()
    shifted = {**events.events, "video": np.roll(events.events["video"], 1, axis=1)}
    found = table(representation, data, events._replace(events=shifted))
    true, said = shifted["video"][25:], events.events["audio"][25:]  # what the probe says
    assert found["audio", "video", "segment_f1"]["value"] == metrics.segment_f1(true, said).f1
    assert found["audio", "video", "event_f1"]["value"] == metrics.event_f1(true, said).f1
    any_event = metrics.segment_f1(true.any(-1, keepdims=True), said.any(-1, keepdims=True))
    assert found["audio", "video", "any_event_f1"]["value"] == any_event.f1
    full = [metrics.with_background(x) for x in (true, said)]
    value = found["audio", "video", "published_precision"]["value"]
    assert value == pytest.approx(metrics.segment_f1(*full).precision)  # one batch
    both = metrics.audio_visual_f1(said, true, said, said)["audio_visual"].f1
    assert found["audio", "audio+video", "segment_f1"]["value"] == both


def test_examples_without_labels_or_without_the_modality_take_no_part():
    representation, data, events = case()
    odd = np.arange(CLIPS) % 2 == 1
    wrong = np.where(
        odd[:, None],
        (np.asarray(representation.indices["video"]) + 1) % 5,
        representation.indices["video"],
    )
    codes = representation._replace(
        indices={"audio": representation.indices["audio"], "video": jnp.asarray(wrong)}
    )
    labelled = events._replace(labelled={**events.labelled, "video": ~odd})
    absent = dataclasses.replace(data, present={**data.present, "video": ~odd})
    for arguments in ((codes, data, labelled), (codes, absent, events)):
        found = table(*arguments)
        for source in ("audio", "video"):
            row = found[source, "video", "segment_f1"]
            assert row["value"] == 1 and row["num_examples"] == 7
        assert found["audio", "audio+video", "segment_f1"]["num_examples"] == 7


def test_a_split_without_labels_and_codes_of_another_length_are_named():
    representation, data, events = case()
    nothing = {**events.labelled, "audio": data.train}
    with pytest.raises(ValueError, match="no test example has events labelled in 'audio'"):
        table(representation, data, events._replace(labelled=nothing))
    short = representation._replace(
        indices={m: x[:, 1:] for m, x in representation.indices.items()}
    )
    with pytest.raises(ValueError, match=r"audio: codes of shape \(40, 5\) do not fit"):
        table(short, data, events)


def test_the_probe_is_two_linear_maps_and_its_loss_is_what_falls():
    representation, _, events = case()
    codes, target = representation.indices["audio"], jnp.asarray(events.events["audio"])
    short = dataclasses.replace(PROBE, steps=1)
    first = short.fit(jax.random.key(0), representation.codebook, codes, target)
    last = PROBE.fit(jax.random.key(0), representation.codebook, codes, target)
    kernel, bias, output_kernel, output_bias = (
        np.asarray(last[f"{layer}_{kind}"], np.float64)
        for layer in ("hidden", "output")
        for kind in ("kernel", "bias")
    )
    hidden = np.asarray(representation.codebook)[np.asarray(codes)] @ kernel + bias
    expected = hidden @ output_kernel + output_bias
    found = PROBE.logits(last, representation.codebook, codes)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    loss = lambda params: optax.sigmoid_binary_cross_entropy(
        PROBE.logits(params, representation.codebook, codes), target.astype(jnp.float32)
    ).mean()
    assert loss(last) < 0.05 < loss(first)


def test_the_seed_decides_everything():
    arguments = case()
    probe = dataclasses.replace(PROBE, steps=5)
    assert table(*arguments, probe=probe) == table(*arguments, probe=probe)
    assert table(*arguments, probe=probe) != table(*arguments, probe=probe, seed=1)
