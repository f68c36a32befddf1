"""What holds for every public metric, by a table of example arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax import metrics
from unirep_jax.metrics import published


class Example(NamedTuple):
    """One call: arrays by name, then options, of which `numbers` are real."""

    arrays: Mapping[str, np.ndarray]
    options: Mapping[str, Any] = {}
    numbers: Mapping[str, float] = {}
    call: Callable[..., Any] | None = None

    def run(self, metric: Callable, **changes: Any) -> Any:
        arguments = {**self.arrays, **self.options, **self.numbers, **changes}
        return metric(**arguments) if self.call is None else self.call(metric, **arguments)


RNG = np.random.default_rng(0)
LABELS, PREDICTIONS = np.array([0, 1, 2, 1]), np.array([0, 2, 2, 1])
OPEN_LABELS = np.array([0, 1, -1, -1])
LOGITS = RNG.normal(size=(4, 3)).astype(np.float32)
EVIDENCE = np.abs(LOGITS)
KNOWN = {"known_scores": np.array([3.0, 2.0, 2.0], np.float32)}
PAIR = {**KNOWN, "unknown_scores": np.array([2.0, 1.0], np.float32)}
CORRECT = {**PAIR, "correct": np.array([True, False, True])}
SEGMENTS = {
    "labels": np.array([0, 1, 1, 0, 1, 1], bool).reshape(1, 3, 2),
    "predictions": np.array([0, 1, 1, 1, 0, 1], bool).reshape(1, 3, 2),
}
ACTIVE = {"active": SEGMENTS["labels"]}
RETRIEVAL = {"scores": LOGITS, "targets": np.array([0, 1, 2, 0])}
BOXES = {"boxes": np.array([[0.1, 0.1, 0.6, 0.7], [0.2, 0.0, 1.0, 0.5]])}
MAPS = {
    "prediction_map": RNG.uniform(size=(2, 4, 4)).astype(np.float32),
    "ground_truth_map": RNG.uniform(size=(2, 4, 4)).astype(np.float32),
}
DETECTIONS = {
    "confidence": np.array([0.9, 0.8, 0.3], np.float32),
    "iou": np.array([0.7, 0.1, 0.6], np.float32),
    "has_object": np.array([True, False, True]),
}
IOUS = {"ious": np.array([0.5, 0.2, 1.0], np.float32)}


def of_ranks(metric, scores, targets, **options):
    return metric(metrics.retrieval_ranks(scores, targets), **options)


EXAMPLES = {
    "accuracy": Example({"labels": LABELS, "predictions": PREDICTIONS}),
    "active_segments": Example({"logits": LOGITS.reshape(2, 2, 3)}, numbers={"threshold": 0.5}),
    "arpl_metrics": Example(CORRECT),
    "ash": Example({"features": EVIDENCE}, numbers={"percentile": 50.0}),
    "audio_visual_f1": Example(
        {
            "audio_labels": SEGMENTS["labels"],
            "visual_labels": SEGMENTS["labels"],
            "audio_predictions": SEGMENTS["predictions"],
            "visual_predictions": SEGMENTS["labels"],
        }
    ),
    "aupr": Example(PAIR),
    "auroc": Example(PAIR),
    "average_precision": Example(RETRIEVAL),
    "best_proposals": Example(
        {"scores": LOGITS[:, 0], "proposal_of": np.array([0, 1, 0, 1])},
        options={"num_examples": 3},
    ),
    "box_consensus_iou": Example(
        {**BOXES, "ground_truth_map": MAPS["ground_truth_map"], "image_of": np.array([0, 1])}
    ),
    "box_maps": Example(BOXES, options={"size": 4}),
    "ccr_at_fpr": Example(CORRECT, numbers={"fpr": 0.5}),
    "class_accuracy_gap": Example(
        {"labels": LABELS, "single": PREDICTIONS, "fused": LABELS},
        call=lambda metric, single, **rest: metric(single={"audio": single}, **rest),
    ),
    "cmg_segment_f1": Example(SEGMENTS, options={"batch_size": 2}),
    "confusion_matrix": Example(
        {"labels": OPEN_LABELS, "predictions": PREDICTIONS}, options={"num_classes": 3}
    ),
    "consensus_iou": Example(MAPS),
    "consensus_map": Example(
        {**BOXES, "annotator": np.array([0, 1])}, options={"agreement": 2, "size": 4}
    ),
    "counterfactual_curve": Example(DETECTIONS, numbers={"iou_threshold": 0.5}),
    "counterfactual_recognition": Example(DETECTIONS, numbers={"iou_threshold": 0.5}),
    "cssr_oscr": Example(CORRECT),
    "detection_accuracy": Example(PAIR),
    "energy": Example({"logits": LOGITS}, numbers={"temperature": 2.0}),
    "event_f1": Example(SEGMENTS, numbers={"iou": 0.5}),
    "evidential_certainty": Example({"evidence": EVIDENCE}),
    "find_events": Example(ACTIVE),
    "fit_threshold": Example(KNOWN, numbers={"tpr": 0.5}),
    "fpr_at_unknown_tpr": Example(PAIR, numbers={"tpr": 0.5}),
    "localization_auc": Example(IOUS),
    "localization_success": Example(IOUS, numbers={"threshold": 0.5}),
    "macro_accuracy": Example({"labels": LABELS, "predictions": PREDICTIONS}),
    "mahalanobis": Example(
        {"features": LOGITS, "reference": EVIDENCE, "label": np.array([0, 1, 0, 1])}
    ),
    "max_expected_probability": Example({"evidence": EVIDENCE}),
    "max_logit": Example({"logits": LOGITS}),
    "max_softmax": Example({"logits": LOGITS}),
    "maximum_concept_matching": Example(
        {"image_embeddings": LOGITS, "text_embeddings": LOGITS[:2]},
        numbers={"temperature": 0.5},
    ),
    "mean_average_precision": Example(RETRIEVAL),
    "median_rank": Example(RETRIEVAL, call=of_ranks),
    "nearest_neighbour": Example({"features": LOGITS, "reference": EVIDENCE}, options={"k": 2}),
    "open_set_accuracy": Example({"labels": OPEN_LABELS, "predictions": PREDICTIONS}),
    "openness": Example({}, options={"num_known": 3, "num_unknown": 2}),
    "oscr": Example(CORRECT),
    "oscr_curve": Example(CORRECT),
    "recall_at": Example(RETRIEVAL, options={"k": 1}, call=of_ranks),
    "retrieval_ranks": Example(RETRIEVAL),
    "segment_f1": Example(SEGMENTS),
    "slavc_recognition": Example(DETECTIONS, numbers={"iou_threshold": 0.5}),
    "threshold_sweep": Example(
        {"confidence": LOGITS[:, 0], "predictions": PREDICTIONS, "labels": OPEN_LABELS}
    ),
    "tnr_at_known_tpr": Example(PAIR, numbers={"tpr": 0.5}),
    "top_k_accuracy": Example({"labels": LABELS, "scores": LOGITS}, options={"k": 2}),
    "virtual_logit": Example(
        {
            "features": LOGITS,
            "logits": LOGITS,
            "reference": EVIDENCE,
            "reference_logits": EVIDENCE,
        },
        options={"dim": 1},
    ),
    "with_background": Example(ACTIVE),
}

ARRAYS = [(name, key) for name, example in EXAMPLES.items() for key in example.arrays]
FLOATS = [(n, k) for n, k in ARRAYS if EXAMPLES[n].arrays[k].dtype.kind == "f"]
INTEGERS = [(n, k) for n, k in ARRAYS if EXAMPLES[n].arrays[k].dtype.kind == "i"]


def metric(name):
    return getattr(metrics, name, None) or getattr(published, name)


def same(result, expected):
    jax.tree.map(np.testing.assert_array_equal, result, expected)


def test_every_public_metric_has_an_example():
    functions = {n for n in metrics.__all__ if not inspect.isclass(getattr(metrics, n))}
    functions |= {
        n
        for n, value in vars(published).items()
        if inspect.isfunction(value) and value.__module__ == published.__name__ and n[0] != "_"
    }
    assert functions == EXAMPLES.keys()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_what_is_not_finite_is_refused_by_its_name(name, argument, value):
    example = EXAMPLES[name]
    array = example.arrays[argument].copy()
    array.flat[0] = value
    with pytest.raises(ValueError, match=argument):
        example.run(metric(name), **{argument: array})


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, example in EXAMPLES.items() for n in example.numbers]
)
def test_a_number_outside_its_range_is_refused_by_its_name(name, number):
    for value in (np.nan, np.inf, -1.0):
        with pytest.raises(ValueError, match=number):
            EXAMPLES[name].run(metric(name), **{number: value})


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_a_masked_array_is_refused_by_its_name(name, argument):
    example = EXAMPLES[name]
    array = np.ma.masked_array(example.arrays[argument])
    with pytest.raises(ValueError, match=f"{argument}.* is a masked array"):
        example.run(metric(name), **{argument: array})


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_nothing_is_refused_in_one_line_that_names_an_argument_or_has_a_value(name, argument):
    example = EXAMPLES[name]
    try:
        result = example.run(metric(name), **{argument: example.arrays[argument][:0]})
    except ValueError as error:
        names = {*example.arrays, argument.split("_")[-1]}
        assert any(key in str(error) for key in names), error
        assert "\n" not in str(error)
    else:  # an image without boxes
        assert argument == "boxes"
        assert not np.isnan(result).any()


@pytest.mark.parametrize("name", EXAMPLES)
def test_jax_arrays_count_as_numpy_arrays(name):
    example = EXAMPLES[name]
    floats_kept = {
        k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in example.arrays.items()
    }
    arrays = {k: jnp.asarray(v) for k, v in floats_kept.items()}
    same(example.run(metric(name), **arrays), example.run(metric(name), **floats_kept))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize(("name", "argument"), INTEGERS)
def test_narrow_integers_count_as_wide_ones(name, argument, dtype):
    example = EXAMPLES[name]
    array = example.arrays[argument]
    if array.min() < 0 and np.issubdtype(dtype, np.unsignedinteger):
        pytest.skip("it holds -1")
    expected = example.run(metric(name))
    same(example.run(metric(name), **{argument: array.astype(dtype)}), expected)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_scores_of_another_width_count_as_the_same_numbers(name, argument, dtype):
    example = EXAMPLES[name]
    array = np.asarray(example.arrays[argument]).astype(dtype)
    narrow = example.run(metric(name), **{argument: array})
    expected = example.run(metric(name), **{argument: array.astype(np.float32)})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), narrow, expected)


def test_more_than_255_classes_may_be_labelled_in_8_bits():
    labels, predictions = np.array([0, 5], np.int8), np.array([256, 5])
    assert metrics.accuracy(labels, predictions) == 0.5
    counts = metrics.confusion_matrix(labels, predictions, num_classes=300)
    assert counts[0, 256] == counts[5, 5] == 1
    assert counts.sum() == 2
