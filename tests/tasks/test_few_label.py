"""Few labels: data that lack a modality are refused in one line that says what to leave out."""

import dataclasses

import numpy as np
import pytest

from unirep_jax.tasks.few_label.task import FewLabel


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
