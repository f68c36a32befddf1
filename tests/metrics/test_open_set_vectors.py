"""Nine small cases with answers worked out in rational arithmetic, for every open-set metric."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from unirep_jax import metrics
from unirep_jax.metrics.published import arpl_metrics, cssr_oscr


class Case(NamedTuple):
    known: list[float]
    unknown: list[float]
    correct: list[int]
    auroc: float
    oscr: float
    accuracy: float
    detection: float
    tnr: float
    threshold: float
    auin: tuple[float, float]  # step, trapezoid
    auout: tuple[float, float]
    arpl: tuple[float, float, float, float, float]  # tnr, auroc, auin, auout, oscr
    cssr_oscr: float


F = Fraction
TWENTY = [i / 20 for i in range(1, 21)]
CASES = {
    "perfect": Case(
        [0.9, 0.8],
        [0.2, 0.1],
        [1, 1],
        1,
        1,
        1,
        1,
        1,
        0.8,
        (1, 1),
        (1, 1),
        (0, 1, 0.75, 0.75, 0.875),
        1,
    ),
    "overlapping": Case(
        [0.9, 0.8, 0.6, 0.4],
        [0.7, 0.3],
        [1, 1, 0, 1],
        F(3, 4),
        F(5, 8),
        F(3, 4),
        F(3, 4),
        F(1, 2),
        0.4,
        (F(71, 80), F(209, 240)),
        (F(3, 4), F(17, 24)),
        (0, 0.75, 0.745833, 0.458333, 0.5),
        0.6875,
    ),
    "partly tied": Case(
        [0.9, 0.5, 0.5],
        [0.5, 0.1],
        [1, 1, 0],
        F(5, 6),
        F(7, 12),
        F(2, 3),
        F(3, 4),
        F(1, 2),
        0.5,
        (F(5, 6), F(11, 12)),
        (F(3, 4), F(7, 8)),
        (0, 0.666667, 0.597222, 0.458333, 0.416667),
        0.666667,
    ),
    "all tied": Case(
        [0.5, 0.5],
        [0.5, 0.5],
        [1, 0],
        F(1, 2),
        F(1, 4),
        F(1, 2),
        F(1, 2),
        0,
        0.5,
        (F(1, 2), F(3, 4)),
        (F(1, 2), F(3, 4)),
        (0, 0, 0.291667, 0.291667, 0),
        0.5,
    ),
    "inverted": Case(
        [0.1, 0.2],
        [0.8, 0.9],
        [1, 1],
        0,
        0,
        1,
        F(1, 2),
        0,
        0.1,
        (F(5, 12), F(7, 24)),
        (F(5, 12), F(7, 24)),
        (0, 0, 0.291667, 0.291667, 0),
        0,
    ),
    "wrong on top": Case(
        [0.9, 0.8],
        [0.7, 0.1],
        [0, 1],
        1,
        F(1, 2),
        F(1, 2),
        1,
        1,
        0.8,
        (1, 1),
        (1, 1),
        (0, 1, 0.75, 0.75, 0.375),
        0.625,
    ),
    "one known lowest": Case(
        [0.9, 0.2],
        [0.5, 0.3],
        [1, 1],
        F(1, 2),
        F(1, 2),
        1,
        F(3, 4),
        0,
        0.2,
        (F(3, 4), F(17, 24)),
        (F(7, 12), F(5, 12)),
        (0, 0.5, 0.458333, 0.416667, 0.375),
        0.5,
    ),
    "alternating": Case(
        [0.9, 0.8],
        [0.85, 0.1],
        [1, 1],
        F(3, 4),
        F(3, 4),
        1,
        F(3, 4),
        F(1, 2),
        0.8,
        (F(5, 6), F(19, 24)),
        (F(5, 6), F(19, 24)),
        (0, 0.75, 0.541667, 0.541667, 0.5),
        0.75,
    ),
    "twenty": Case(
        TWENTY,
        [0.05, 0.03, 0.10, 0.52],
        [1] * 20,
        F(17, 20),
        F(17, 20),
        1,
        F(33, 40),
        F(1, 2),
        0.1,
        (0.962323, 0.963311),
        (F(67, 105), F(7439, 10920)),
        (0.25, 0.8375, 0.936099, 0.472894, 0.8125),
        0.85,
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def close(expected):
    """To rounding where the answer is rational, to the six digits given where it is a decimal."""
    rational = isinstance(expected, int | Fraction)
    return pytest.approx(float(expected), abs=1e-14 if rational else 6e-7)


def test_areas_are_exact(case):
    correct = np.array(case.correct, bool)
    assert metrics.auroc(case.known, case.unknown) == close(case.auroc)
    assert metrics.oscr(case.known, case.unknown, correct) == close(case.oscr)
    curve = metrics.oscr_curve(case.known, case.unknown, correct)
    assert np.trapezoid(curve.ccr, curve.fpr) == close(case.oscr)
    assert curve.ccr[-1] == close(case.accuracy)
    for positive, answers in {"known": case.auin, "unknown": case.auout}.items():
        for convention, answer in zip(("step", "trapezoid"), answers, strict=True):
            area = metrics.aupr(case.known, case.unknown, positive=positive, convention=convention)
            assert area == close(answer), (positive, convention)


def test_operating_points_are_exact(case):
    assert metrics.detection_accuracy(case.known, case.unknown) == close(case.detection)
    assert metrics.fit_threshold(case.known) == case.threshold
    assert metrics.tnr_at_known_tpr(case.known, case.unknown) == close(case.tnr)


def test_published_evaluators_are_reproduced_with_their_bias(case):
    correct = np.array(case.correct, bool)
    result = arpl_metrics(case.known, case.unknown, correct)
    np.testing.assert_allclose(result, case.arpl, atol=6e-7)
    assert cssr_oscr(case.known, case.unknown, correct) == close(float(case.cssr_oscr))


def test_which_class_is_positive_changes_the_rate_at_95_percent():
    case = CASES["partly tied"]
    assert metrics.fpr_at_unknown_tpr(case.known, case.unknown) == close(F(2, 3))
    assert 1 - metrics.tnr_at_known_tpr(case.known, case.unknown) == close(F(1, 2))


def test_dropping_collinear_points_of_the_roc_curve_would_give_another_rate():
    case = CASES["twenty"]
    truth, scores = [1] * 20 + [0] * 4, case.known + case.unknown
    answers = {}
    for drop in (False, True):
        fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=drop)
        answers[drop] = fpr[np.argmax(tpr >= 0.95)]
    assert answers == {False: 0.5, True: 0.75}
    assert metrics.tnr_at_known_tpr(case.known, case.unknown) == 1 - answers[False]


def test_exact_metrics_reproduce_the_heavily_tied_reference_file(oracle):
    reference = oracle("open_set")
    pair = reference["known_scores"], reference["unknown_scores"]
    correct = reference["known_labels"] == reference["known_predictions"]
    np.testing.assert_allclose(metrics.auroc(*pair), reference["auroc"], rtol=1e-13)
    np.testing.assert_allclose(metrics.oscr(*pair, correct), reference["oscr"], rtol=1e-13)
    found = metrics.detection_accuracy(*pair)
    np.testing.assert_allclose(found, reference["detection_accuracy"], rtol=1e-13)
    assert metrics.fit_threshold(pair[0]) == reference["threshold_tpr95"]
    found = metrics.tnr_at_known_tpr(*pair)
    np.testing.assert_allclose(found, reference["tnr_at_known_tpr95"], rtol=1e-13)
