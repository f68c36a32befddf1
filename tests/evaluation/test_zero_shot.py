"""Prompt ensembles and zero-shot classification, by hand and against plain NumPy."""

import numpy as np
import pytest

from unirep_jax.evaluation.zero_shot import class_embeddings, zero_shot


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts_by_hand():
    prompts = np.array([[[3, 0], [0, 0.1]], [[0, 2], [0, 5]]], np.float32)
    expected = [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]]
    np.testing.assert_allclose(class_embeddings(prompts), expected, rtol=1e-6)


def test_the_length_of_a_prompt_does_not_matter_but_its_direction_does(rng):
    prompts = rng.normal(size=(4, 3, 6)).astype(np.float32)
    classes = class_embeddings(prompts)
    np.testing.assert_allclose(classes, unit(unit(prompts).mean(1)), rtol=1e-5, atol=1e-7)
    lengths = rng.uniform(0.01, 100, (4, 3, 1)).astype(np.float32)
    np.testing.assert_allclose(class_embeddings(lengths * prompts), classes, rtol=1e-5, atol=1e-6)
    plain_mean = unit((lengths * prompts).mean(1))
    assert abs(plain_mean - classes).max() > 0.1


def test_a_zero_prompt_adds_nothing_and_prompts_that_cancel_are_like_no_item():
    prompts = np.array([[[0, 0], [0, 2]], [[1, 0], [-3, 0]]], np.float16)
    classes = class_embeddings(prompts)
    assert classes.dtype == np.float32
    np.testing.assert_array_equal(classes, [[0, 1], [0, 0]])


def test_hand_computed_shares_of_seven_classes():
    prompts = np.eye(7, dtype=np.float32)[:, None]
    items = np.array(
        [
            [9, 1, 0, 0, 0, 0, 0],  # of class 0: first
            [9, 8, 7, 0, 0, 0, 0],  # of class 2: third
            [9, 8, 7, 6, 5, 0, 0],  # of class 4: fifth
            [6, 5, 4, 3, 2, 1, 0],  # of class 6: last
        ],
        np.float32,
    )
    found = list(zero_shot(items, prompts, [0, 2, 4, 6]))
    assert [metric for metric, _, _ in found] == ["top_1", "top_3", "top_5"]
    np.testing.assert_allclose([value for _, value, _ in found], [1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose([chance for *_, chance in found], [1 / 7, 3 / 7, 5 / 7])


def test_it_is_sorting_by_cosine_whatever_the_lengths(rng):
    prompts = rng.normal(size=(9, 4, 5))
    items, labels = rng.normal(size=(60, 5)), rng.integers(0, 9, 60)
    order = np.argsort(-items @ unit(unit(prompts).mean(1)).T, axis=1)
    place = np.argmax(order == labels[:, None], axis=1)
    lengths = rng.uniform(0.1, 10, (60, 1))
    for metric, value, _ in zero_shot(lengths * items, prompts, labels):
        assert value == pytest.approx(np.mean(place < int(metric[-1])), abs=1e-12)


def test_collapsed_items_score_as_chance():
    labels = np.arange(24) % 8
    for metric, value, chance in zero_shot(np.zeros((24, 3)), np.ones((8, 2, 3)), labels):
        assert value == pytest.approx(chance, abs=1e-12), metric


def test_no_more_places_are_asked_for_than_there_are_other_classes(rng):
    items, labels = rng.normal(size=(6, 4)), np.zeros(6, int)
    for classes, tops in ((1, ["top_1"]), (3, ["top_1"]), (4, ["top_1", "top_3"])):
        prompts = rng.normal(size=(classes, 2, 4))
        assert [metric for metric, _, _ in zero_shot(items, prompts, labels)] == tops


def test_wrong_inputs_raise_and_name_the_culprit(rng):
    prompts, items, labels = rng.normal(size=(3, 2, 4)), rng.normal(size=(5, 4)), np.zeros(5, int)
    hole = prompts.copy()
    hole[2, 1, 3] = np.nan
    cases = [
        (items, prompts[0], labels, r"prompts must be \[class, template, dim\]"),
        (items, prompts[:, :0], labels, r"prompts must be \[class, template, dim\]"),
        (items, hole, labels, r"prompts\[2, 1\] \(class, template\) is not finite"),
        (items[:, 1:], prompts, labels, r"items must be \[example, 4\] as prompts are"),
        (items, prompts, labels + 3, r"targets must be in \[0, 3\)"),
        (items, prompts, labels - 1, "labels must be at least 0"),
        (items, prompts, labels[1:], "targets must be 5 integers"),
    ]
    for *inputs, culprit in cases:
        with pytest.raises(ValueError, match=culprit):
            list(zero_shot(*inputs))
