"""Few labels: data that lack a modality are refused in one line that says what to leave out."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.evaluation.embedding import Representation
from unirep_jax.methods.baselines import RawFeatures
from unirep_jax.tasks.few_label.task import FewLabel
from unirep_jax.tasks.representation import Subject


@pytest.mark.parametrize("part", ["training", "test"])
def test_a_modality_without_examples_in_a_part_is_named(paired_features, part):
    data = paired_features
    there = ~data.train if part == "training" else data.train
    data = dataclasses.replace(data, present=data.present | {"sensor": there.copy()})
    with pytest.raises(
        ValueError,
        match=rf"^no {part} example has a label and the modality "
        r"'sensor': leave it out of --config\.data",
    ):
        FewLabel().shown(data, 0)
    assert FewLabel(labelled=0.2).shown(paired_features, 0) is paired_features


def test_a_share_that_gives_a_class_no_label_is_refused(paired_features):
    with pytest.raises(ValueError, match=r"task\.labelled=0\.01: 1 of 64"):
        FewLabel(labelled=0.01).shown(paired_features, 0)
    assert np.unique(paired_features.label).size == 4


def test_test_examples_alone_are_classified(paired_features, standard_promotion):
    """Their codes say another class than those of training examples do: nothing is right."""
    data = paired_features
    said = np.where(data.train, data.label, (data.label + 1) % 4)[:, None]
    view = Representation(
        dict.fromkeys(data.modalities, 3 * jnp.eye(4)),
        dict.fromkeys(data.modalities, jnp.asarray(said)),
        {},
        None,
    )
    task = FewLabel(probe={"hidden": 16, "steps": 100, "lr": 3e-2})
    for _, row in task.measure(Subject("raw", RawFeatures(), view, data, 0)):
        assert row["num_examples"] == (~data.train).sum() and row["value"] == 0
