"""Other splits: training examples in the place of the test examples; a new draw of these."""

import dataclasses

import numpy as np

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.sample import take


def hold_out(data: FeatureSet, share: float, seed: int) -> FeatureSet:
    """The training examples alone, some of which are for testing now.

    Groups stay together, as in the split of the data themselves: a person who is tested was not
    trained on. Of data without groups that many examples are drawn of every class. Test examples
    are not in the result, so nothing chosen with it has seen them.

    Args:
      data: of any tasks.
      share: of the training examples to hold out, within 0 … 1, both excluded.
      seed: of the draw.

    Raises:
      ValueError: the share is not within its bounds, or it leaves nothing on one side.
    """
    if not 0 < share < 1:
        raise ValueError(f"data.held_out={share} is not within 0 … 1, both excluded")
    rows = np.flatnonzero(data.train)
    random = np.random.default_rng([seed, len(rows)])
    held = _drawn(data.group[rows], data.label[rows], share, random, whole=bool(data.captions))
    if held.all() or not held.any():
        raise ValueError(
            f"{data.name}: data.held_out={share} of {len(rows)} training examples leaves none "
            f"{'to train on' if held.all() else 'to test'}"
        )
    return dataclasses.replace(take(data, rows), train=~held)


def _drawn(
    group: np.ndarray, label: np.ndarray, share: float, random: np.random.Generator, *, whole: bool
) -> np.ndarray:
    """Which examples are held out, bool [example]; `whole`: groups are items, however small."""
    names, member = np.unique(group, return_inverse=True)
    # Groups of one or two examples tell nothing about who made them: classes count more.
    if len(names) >= 2 and (whole or len(group) / len(names) > 2):
        order = random.permutation(len(names))
        reached = np.cumsum(np.bincount(member)[order]) / len(group)
        count = 1 + int(np.argmin(np.abs(reached[:-1] - share)))
        return np.isin(member, order[:count])
    held = np.zeros(len(label), bool)
    for value in np.unique(label):
        rows = random.permutation(np.flatnonzero(label == value))
        held[rows[: round(share * len(rows))]] = True
    return held


def redraw_split(data: FeatureSet, seed: int) -> FeatureSet:
    """The same examples on another split: about as many test examples, whole groups of them.

    Args:
      data: the result does not depend on its own split but for the share of test examples.
      seed: of the draw.

    Raises:
      ValueError: no training or no test example is left.
    """
    test = draw_groups(data.group, float(np.mean(~data.train)), seed)
    if test.all() or not test.any():
        raise ValueError(f"{data.name}: --config.data.redraw=True needs several groups of examples")
    return dataclasses.replace(data, train=~test)


def draw_groups(group: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """bool [example]: whole groups in random order until they hold `fraction` of the examples."""
    names, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(group, names[order[before < fraction * len(group)]])
