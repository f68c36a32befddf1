"""What MICU has of ours: a fine loss where time is shared, hidden pieces, rows by device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import batch_of, start

from unirep_jax.methods import MICU
from unirep_jax.methods.puzzles import Draw, Puzzles, hide_pieces, mixed_puzzles, rows_at_a_time

SMALL = MICU(
    dim=16,
    codes=12,
    layers=1,
    heads=2,
    pieces=4,
    permutations=6,
    temporal="convolution",
    temperature=0.1,
    cosine=True,
    mask="none",
)


def fine(method, feature_set):
    method, _, state = start(method, feature_set)
    _, (_, terms) = jax.jit(method.loss)(
        state.params, state.state, batch_of(feature_set), key=jax.random.key(0)
    )
    return float(terms["fine"])


def test_timed_pairs_are_the_mean_over_those_pairs_and_each_modality_with_itself(paired_features):
    # Of three modalities there are three pairs with themselves and two of camera and sensor.
    alone = dataclasses.replace(SMALL, fine_pairs="timed", timed=(("camera", "camera"),))
    both = dataclasses.replace(SMALL, fine_pairs="timed", timed=(("sensor", "camera"),))
    everything = dataclasses.replace(
        SMALL,
        fine_pairs="timed",
        timed=(
            ("sensor", "camera"),
            ("caption", "camera"),
            ("caption", "sensor"),
        ),
    )
    values = {m: fine(m, paired_features) for m in (alone, both, everything, SMALL)}
    assert values[everything] == pytest.approx(values[SMALL], rel=1e-6)
    assert values[alone] < values[both] < values[SMALL], "others are harder than oneself"


def test_pairs_are_measured_on_training_examples_unless_somebody_names_them(paired_features):
    method = dataclasses.replace(SMALL, fine_pairs="timed")
    measured = method.for_examples(paired_features)
    assert {*map(frozenset, measured.timed)} <= {
        frozenset(p) for p in (("camera", "sensor"), ("camera", "caption"), ("sensor", "caption"))
    }
    named = dataclasses.replace(method, timed=(("camera", "sensor"),))
    assert named.for_examples(paired_features) == named
    assert SMALL.for_examples(paired_features) == SMALL
    with pytest.raises(ValueError, match=r"method.timed: \('camera', 'smell'\)"):
        dataclasses.replace(method, timed=(("camera", "smell"),)).for_examples(paired_features)
    with pytest.raises(ValueError, match="fine_pairs"):
        MICU(fine_pairs="some")


def test_hidden_pieces_are_zero_and_as_many_as_asked_for():
    keys = jax.random.split(jax.random.key(0), 50)
    puzzles = Puzzles(jnp.ones((200, 4, 3)), jnp.ones(200, bool))
    pieces = np.asarray(hide_pieces(keys, puzzles, 0.5).pieces)
    assert {*np.unique(pieces)} == {0, 1}
    assert (pieces.min(-1) == pieces.max(-1)).all(), "whole pieces"
    assert abs(pieces.mean() - 0.5) < 0.06


def test_a_mixed_puzzle_has_each_piece_of_the_modality_drawn():
    features = jnp.arange(3 * 2 * 1 * 4, dtype=jnp.float32).reshape(3, 2, 1, 4)
    draw = Draw(jnp.array([[[2, 0]], [[1, 1]]]), jnp.array([True, False]))
    puzzles = mixed_puzzles(features, draw)
    expected = [[[16, 17], [2, 3]], [[12, 13], [14, 15]]]
    np.testing.assert_array_equal(puzzles.pieces, expected)
    np.testing.assert_array_equal(puzzles.where, [True, False])


def test_an_accelerator_takes_the_rows_of_a_jigsaw_in_few_blocks(monkeypatch):
    assert rows_at_a_time(256, 8, 512) == 16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert rows_at_a_time(256, 8, 512) == 1024
    assert rows_at_a_time(10**9, 8, 512) == 8
